"""Mutate valid jobs and run them: each must be scored or refused in one sentence, soon and in little memory.

    python -m test.hostile.fuzz_job [--cases 20000] [--first 0] [--folder build/fuzz]

A case is made from its number and the tables of test_bad_jobs.py, so `--first N --cases 1` repeats it. It
runs in this process, job and all, with a bundle of two small layers. A case that fails stays in the folder;
the last line is the count.
"""

import argparse
import faulthandler
import io
import json
import os
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator

from amf.errors import JobError
from amf.inference import job
from amf.model import bundle
from amf.model.backbones import BACKBONES
from amf.model.classifier import Classifier, HeadSpec
from amf.model.spec import MemberSpec
from test.hostile.stacks import BAD_STACKS, UNUSUAL_STACKS
from test.support.jobs import save_tiff, write_job
from test.support.made import SHORT, Page, Tag, mha, tiff

SECONDS, MEMORY_BYTES = 10, 1e9
HANG_SECONDS = 60
"""Ends the process, whatever it waits for; the 10 s are the processor's, as the machine may be busy."""

NUMBERS = (0, 1, 2, 3, 8, 127, 128, 255, 256, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63, 2**64 - 1)
JSON_VALUES = (
    "null",
    "true",
    "-1",
    "1e999",
    "NaN",
    "{}",
    "[]",
    '""',
    '"../.."',
    '"\\u0000"',
    '"\\ud800"',
    "[[",
)
LARGEST_SEED_BYTES = 200_000


def seeds() -> list[tuple[str, bytes]]:
    """Names and contents of stacks to start from: small, so that a mutation meets their structure."""
    flat = np.zeros((3, 128, 128, 3), np.uint8)
    flat[1:] = 200
    file = Path(os.environ.get("TMPDIR", "/tmp")) / f"seed-{os.getpid()}.tif"
    save_tiff(file, flat)
    as_the_platform = file.read_bytes()
    file.unlink()
    deflated = [Page([zlib.compress(page.tobytes())], {Tag.COMPRESSION: (SHORT, [8])}) for page in flat]
    mine = [
        ("platform.tif", as_the_platform),
        ("big-endian.tif", tiff(deflated, order=">")),
        ("big.tif", tiff(deflated, big=True)),
        ("deflated.mha", mha(zlib.compress(flat.tobytes()), 3, CompressedData=True)),
        ("flat.mha", mha(flat[0].tobytes(), 1)),
    ]
    tables = [*UNUSUAL_STACKS.values(), *UNUSUAL_STACKS.values(), *BAD_STACKS.values()]
    return mine * 20 + [(name, data) for name, data, _ in tables if 0 < len(data) <= LARGEST_SEED_BYTES]


def position(data: bytearray, generator: Generator) -> int:
    """Where to strike: mostly near either end, where headers and directories are."""
    near = int(min(generator.integers(1, 400), len(data)))
    return int(generator.choice([near - 1, len(data) - near, generator.integers(len(data))]))


def flip(data: bytearray, generator: Generator) -> None:
    data[position(data, generator)] ^= 1 << int(generator.integers(8))


def number(data: bytearray, generator: Generator) -> None:
    size, order = int(generator.choice([1, 2, 4, 8])), "big" if generator.integers(2) else "little"
    at = position(data, generator)
    value = int(NUMBERS[generator.integers(len(NUMBERS))]) % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, order)


def cut(data: bytearray, generator: Generator) -> None:
    del data[position(data, generator) :]


def drop(data: bytearray, generator: Generator) -> None:
    at = position(data, generator)
    del data[at : at + int(generator.integers(1, 64))]


def repeat(data: bytearray, generator: Generator) -> None:
    at, size = position(data, generator), int(generator.integers(1, 256))
    to = position(data, generator)
    data[to:to] = data[at : at + size]


def noise(data: bytearray, generator: Generator) -> None:
    at, size = position(data, generator), int(generator.integers(1, 32))
    data[at : at + size] = generator.bytes(size)


def digits(data: bytearray, generator: Generator) -> None:
    """Change a digit of a text header."""
    places = [at for at, byte in enumerate(data[:400]) if 48 <= byte <= 57]
    if places:
        at = places[generator.integers(len(places))]
        data[at : at + 1] = str(generator.choice([0, 7, -1, 99, 10**9, 10**18])).encode()


KEEP_SIZE = (flip, flip, number, number, noise, digits)
CHANGE_SIZE = (cut, drop, repeat)  # rarer, as they break every offset behind them


def mutate(original: bytes, generator: Generator) -> bytes:
    data = bytearray(original)
    for _ in range(int(generator.geometric(0.6))):
        if data:
            kinds = KEEP_SIZE if generator.random() < 0.85 else CHANGE_SIZE
            kinds[generator.integers(len(kinds))](data, generator)
    return bytes(data)


def mutate_json(original: str, generator: Generator) -> bytes:
    """Put another value, or another byte, somewhere into a JSON text."""
    if generator.integers(2):
        return mutate(original.encode(), generator)
    starts = [at for at, letter in enumerate(original) if letter in '"{[']
    at = starts[generator.integers(len(starts))]
    value = JSON_VALUES[generator.integers(len(JSON_VALUES))]
    encoding = str(generator.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    return (original[:at] + value + original[at + int(generator.integers(40)) :]).encode(encoding)


def write_case(folder: Path, case: int, stacks: list[tuple[str, bytes]]) -> None:
    """Write the job of one number: three in four have a changed stack, the others a changed inputs.json."""
    generator = np.random.default_rng([2025, case])
    name, data = stacks[generator.integers(len(stacks))]
    stack_folder = write_job(folder, name)
    if case % 4:
        (stack_folder / name).write_bytes(mutate(data, generator))
        return
    (stack_folder / name).write_bytes(stacks[0][1])
    sockets = folder / "inputs.json"
    sockets.write_bytes(mutate_json(sockets.read_text(), generator))


def run_case(job_folder: Path, output: Path, model: Path) -> str:
    """Run one job and check what it leaves behind; AssertionError where it breaks a promise."""
    answer = output / job.OUTPUT_NAME
    try:
        predictions = job.run(job_folder, output, model, "cpu")
    except JobError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "\n" not in message, "a message of two lines"
        assert not list(output.iterdir()), "an output although the job was refused"
        return "refused"
    written = json.loads(answer.read_text())
    assert [path.name for path in output.iterdir()] == [answer.name], "a file left behind"
    assert [(entry["class"], entry["confidence"]) for entry in written] == [
        (p.label, p.confidence) for p in predictions
    ]
    assert all(type(entry["confidence"]) is float and 0 <= entry["confidence"] <= 1 for entry in written)
    answer.unlink()
    return "scored"


def resident_bytes(field: str) -> float:
    """VmRSS, or VmHWM: the most since the mark was last set back."""
    status = Path("/proc/self/status").read_text()
    return 1024 * float(status[status.index(field) :].split()[1])


def write_bundle(folder: Path) -> None:
    torch.manual_seed(0)
    arguments, head = {"widths": [4, 4], "blocks": [1, 1]}, HeadSpec(hidden=4)
    image = BACKBONES["compact"].image
    spec = MemberSpec("compact", arguments, head, image, 1, "a.safetensors", "", "float32")
    weights = Classifier("compact", arguments, head).state_dict()
    options = {
        "name": "fuzz",
        "temperature": 1.0,
        "bias": 0.0,
        "threshold": 0.5,
        "fitted_on": "nothing",
        "provenance": {},
    }
    bundle.write(folder, [(spec, weights)], **options)  # type: ignore[arg-type]


@contextmanager
def stderr_in(path: Path) -> Iterator[int]:
    """Send all that this process writes to stderr, C libraries included, to a file; yields the old one."""
    old, new = os.dup(2), os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND)
    os.dup2(new, 2)
    try:
        yield old
    finally:
        os.dup2(old, 2)


def run(first: int, count: int, folder: Path) -> dict[str, object]:
    """Run the jobs first to first + count - 1 and count how they end."""
    shutil.rmtree(folder, ignore_errors=True)
    output, model = folder / "output", folder / "bundle"
    output.mkdir(parents=True)
    write_bundle(model)
    stacks = seeds()
    return run_cases(
        range(first, first + count),
        folder,
        lambda case_folder, case: write_case(case_folder, case, stacks),
        lambda case_folder: run_case(case_folder, output, model),
    )


def run_cases(
    cases: range, folder: Path, write: Callable[[Path, int], None], end_of: Callable[[Path], str]
) -> dict[str, object]:
    """Write each case into a folder of its own and count how they end; what breaks a promise stays there."""
    errors = folder / "stderr"
    ends, failures = Counter[str](), []
    slowest, most_memory = 0.0, 0.0
    with stderr_in(errors) as stderr:
        for case in cases:
            case_folder = folder / f"case-{case}"
            write(case_folder, case)
            os.truncate(errors, 0)
            Path("/proc/self/clear_refs").write_text("5")
            before, started = resident_bytes("VmRSS"), time.process_time()
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True, file=stderr)
            try:
                with redirect_stdout(io.StringIO()):
                    end = end_of(case_folder)
                took, memory = time.process_time() - started, resident_bytes("VmHWM") - before
                assert took < SECONDS, f"{took:.1f} s"
                assert memory < MEMORY_BYTES, f"{memory / 1e6:.0f} MB"
                assert errors.stat().st_size == 0, errors.read_text()
            except Exception as error:
                failures.append(f"case {case}: {type(error).__name__}: {error}")
                continue
            finally:
                faulthandler.cancel_dump_traceback_later()
            ends[end] += 1
            slowest, most_memory = max(slowest, took), max(most_memory, memory)
            shutil.rmtree(case_folder)
    return {
        "cases": len(cases),
        **ends,
        "failures": failures,
        "slowest_cpu_s": round(slowest, 2),
        "most_memory_mb": round(most_memory / 1e6),
    }


def main_of(run: Callable[[int, int, Path], dict[str, object]], cases: int, about: str) -> int:
    """The command line of a fuzzer; 1 where a case broke a promise."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--cases", type=int, default=cases)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = run(arguments.first, arguments.cases, arguments.folder)
    print(json.dumps(result))
    return bool(result["failures"])


if __name__ == "__main__":
    raise SystemExit(main_of(run, 20_000, __doc__.splitlines()[0]))
