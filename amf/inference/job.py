"""One platform job, start to end: sockets → stack → predictions → atomic JSON."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from amf.errors import JobError
from amf.files import write_text
from amf.inference.predict import Prediction, Predictor
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_NAME, socket_of
from amf.inference.stack import SUFFIXES, read_stack
from amf.inference.streams import silence
from amf.model import bundle


def run(input_dir: Path, output_dir: Path, model_dir: Path, device: str = "auto") -> list[Prediction]:
    """Score one job and write its answer, the bundle loaded for it: see run_case and load_predictor."""
    return run_case(input_dir, output_dir, lambda: load_predictor(model_dir, device))


def load_predictor(model_dir: Path, device: str) -> Predictor:
    """Load the bundle of a folder onto "auto", "cpu" or "cuda".

    Raises
    ------
    BundleError : the bundle is not usable.
    DeviceError : CUDA was asked for, and no CUDA device is available.
    """
    return Predictor(bundle.load(model_dir), device)


def run_case(input_dir: Path, output_dir: Path, get_predictor: Callable[[], Predictor]) -> list[Prediction]:
    """Score the job's stack and write its answer.

    Parameters
    ----------
    input_dir : holds inputs.json and the stack; output_dir : receives OUTPUT_NAME, or nothing at all.
    get_predictor : called once the stack is read: an invalid job ends before the bundle is loaded.

    Returns
    -------
    One prediction a page, in page order.

    Raises
    ------
    JobError : the input is not a valid job or the output cannot be written.
    """
    started = time.perf_counter()
    _clear(output_dir)
    path = find_stack(input_dir)
    with silence():
        patches = read_stack(path)  # (N, 128, 128, 3)
    predictor = get_predictor()
    predictions = predictor.predict(patches)
    output = write_predictions(output_dir, predictions)

    lines = [f"{path.name}: {len(predictions)} figures; bundle {predictor.spec.name} on {predictor.device}"]
    lines.append("page  class     P(atypical)")
    for page, prediction in enumerate(predictions, start=1):
        lines.append(f"{page:4}  {prediction.label:8}  {prediction.confidence:.4f}")
    lines.append(f"wrote {output} in {time.perf_counter() - started:.2f} s")
    with suppress(OSError):  # the answer is written: a log that cannot be written is no failed job
        print("\n".join(lines), flush=True)
    return predictions


def find_stack(input_dir: Path) -> Path:
    """Return the one stack of the job, by its socket's path, whatever its name.

    Raises
    ------
    JobError : inputs.json is missing or is not a Track 2 job, or the folder does not hold exactly one stack.
    """
    sockets_file = input_dir / "inputs.json"
    try:
        sockets = json.loads(sockets_file.read_bytes())
    except OSError as error:
        raise JobError(f"{sockets_file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise JobError(f"{sockets_file} is not valid JSON: {error}") from error
    folder = input_dir / _relative_path(sockets, sockets_file)
    try:
        files = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except (OSError, ValueError) as error:  # a ValueError of a path that holds NUL
        raise JobError(f"{folder} cannot be read: {getattr(error, 'strerror', error)}") from error
    stacks = [file for file in files if file.suffix.lower() in SUFFIXES]
    if len(stacks) != 1:
        found = ", ".join(repr(file.name) for file in files[:4]) or "nothing"
        raise JobError(f"{folder} holds {found}, expected exactly one stack ({', '.join(SUFFIXES)})")
    return stacks[0]


def _relative_path(sockets: Any, sockets_file: Path) -> str:
    """Check that inputs.json names the one socket of Track 2, and return the socket's folder."""
    try:
        described = [socket_of(entry) for entry in sockets]
        slugs = [socket["slug"] for socket in described]
        relative_paths = [socket["relative_path"] for socket in described]
    except (TypeError, KeyError) as error:
        raise JobError(
            f"{sockets_file} is not a list of sockets, each with slug and path under socket or interface"
        ) from error
    except ValueError as error:
        raise JobError(f"{sockets_file} {error}") from error
    if slugs != [INPUT_SOCKET] or not isinstance(relative_paths[0], str):
        raise JobError(
            f"{sockets_file} has the sockets {list(zip(slugs, relative_paths, strict=True))!r}, expected "
            f"'{INPUT_SOCKET}' and its path"
        )
    return relative_paths[0]


def write_predictions(output_dir: Path, predictions: list[Prediction]) -> Path:
    """Write the platform's JSON in page order; the file appears whole or not at all."""
    target = output_dir / OUTPUT_NAME
    answer = [{"class": p.label, "confidence": p.confidence} for p in predictions]
    text = json.dumps(answer, indent=2, allow_nan=False) + "\n"
    write_text(target, text, JobError, survives_power_cut=False)  # a job that one ends has no answer anyway
    return target


def _clear(output_dir: Path) -> None:
    """Fail before the work rather than after it, and leave no earlier answer for a job that fails."""
    if not output_dir.is_dir() or not os.access(output_dir, os.W_OK | os.X_OK):
        raise JobError(f"{output_dir} is not a folder that can be written to")
    try:
        (output_dir / OUTPUT_NAME).unlink(missing_ok=True)
    except OSError as error:
        raise JobError(f"{output_dir / OUTPUT_NAME} cannot be replaced: {error.strerror or error}") from error
