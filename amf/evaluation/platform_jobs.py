"""The organisers' layout: predictions.json lists the jobs and their outputs, ground_truth.json the truth."""

import math
from pathlib import Path
from typing import Any

from pandas import DataFrame

from amf.data.loading import read_json
from amf.errors import DataError, account
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_SOCKET, socket_of

JOBS, TRUTH = "predictions.json", "ground_truth.json"
LABELS = {"normal": 0, "atypical": 1}
"""The two words that the organisers take, and no other."""


def read_jobs(folder: Path, truth_path: Path) -> tuple[DataFrame, list[str], list[str]]:
    """Read the outputs of all jobs whose truth is known.

    Returns
    -------
    image (str), page (Int64), label and predicted (int64, 1 = AMF), confidence (float64) and domain of each
    figure; the images of jobs without truth; the images of the truth without a job.

    Raises
    ------
    DataError : a file is missing or malformed, or the organisers would refuse an output.
    """
    jobs = read_json(folder / JOBS)
    if not isinstance(jobs, list):
        raise DataError(f"{folder / JOBS} holds {_kind(jobs)}, expected a list of jobs")
    truth = _read_ground_truth(truth_path)
    rows: list[tuple[str, int, int, int, float, int]] = []
    seen: dict[str, str] = {}  # job -> its image
    without_truth: list[str] = []
    for number, job in enumerate(jobs):
        pk, image, output_path = _job_sockets(job, f"{folder / JOBS}, job {number}")
        where = f"job {pk} ({image})"
        if pk in seen or image in seen.values():
            raise DataError(f"{where} is a second job of that name or image, expected one for each image")
        seen[pk] = image
        if image not in truth:
            without_truth.append(image)
            continue
        labels, domains = truth[image]
        path = folder / pk / "output" / output_path
        outputs = read_json(path)
        if not isinstance(outputs, list) or len(outputs) != len(labels):
            found = f"{len(outputs)} predictions" if isinstance(outputs, list) else _kind(outputs)
            raise DataError(
                f"{where}: {path} holds {found}, expected a list of {len(labels)} as in the truth"
            )
        for page, (output, label, domain) in enumerate(zip(outputs, labels, domains, strict=True)):
            rows.append((image, page, label, *_check_output(output, f"{where}, prediction {page}"), domain))
    without_job = [image for image in truth if image not in seen.values()]
    account(f"images of {truth_path}", len(truth), len(seen) - len(without_truth), len(without_job))
    columns = ["image", "page", "label", "predicted", "confidence", "domain"]
    return DataFrame(rows, columns=columns).astype({"page": "Int64"}), without_truth, without_job


def lists(content: Any, key: str) -> bool:
    """Whether JSON lists objects with a key: `inputs` of the platform's jobs, `labels` of the truth."""
    return isinstance(content, list) and any(isinstance(entry, dict) and key in entry for entry in content)


def truth_table(path: Path) -> DataFrame:
    """The organisers' ground truth as a table, one row a figure: image, page, label (1 = AMF), domain."""
    rows = [
        (image, page, label, domain)
        for image, (labels, domains) in _read_ground_truth(path).items()
        for page, (label, domain) in enumerate(zip(labels, domains, strict=True))
    ]
    return DataFrame(rows, columns=["image", "page", "label", "domain"]).astype({"page": "Int64"})


def _job_sockets(job: Any, where: str) -> tuple[str, str, str]:
    """The job's key, the name of its input image and the relative path of its output."""
    try:
        inputs = {socket_of(value)["slug"]: value for value in job["inputs"]}
        outputs = {socket_of(value)["slug"]: socket_of(value) for value in job["outputs"]}
        if list(inputs) != [INPUT_SOCKET]:
            raise DataError(f"{where}: its inputs are {sorted(inputs)}, expected {INPUT_SOCKET!r} alone")
        if OUTPUT_SOCKET not in outputs:
            raise DataError(f"{where}: its outputs are {sorted(outputs)}, expected {OUTPUT_SOCKET!r}")
        image, path = inputs[INPUT_SOCKET]["image"]["name"], outputs[OUTPUT_SOCKET]["relative_path"]
        return str(job["pk"]), str(image), str(path)
    except (KeyError, TypeError) as error:
        raise DataError(f"{where} is not a job as the platform writes it: {error}") from error
    except ValueError as error:
        raise DataError(f"{where}: one of its sockets {error}") from error


def _check_output(output: Any, where: str) -> tuple[int, float]:
    """Class (1 = atypical) and confidence of one prediction; refuses what the organisers refuse."""
    if not isinstance(output, dict):
        raise DataError(f"{where} is {_kind(output)}, expected an object with class and confidence")
    if not {"class", "confidence"} <= output.keys():
        raise DataError(f"{where} has the keys {sorted(output)}, expected class and confidence")
    name, confidence = output["class"], output["confidence"]
    if not isinstance(name, str) or name not in LABELS:
        raise DataError(f"{where}: the class is {name!r}, expected 'normal' or 'atypical'")
    if not isinstance(confidence, float):
        raise DataError(
            f"{where}: the confidence is {confidence!r}, expected a real number: "
            "a whole one needs a fraction too, as in 1.0"
        )
    # The organisers' own check lets a value beyond 1 through, but no probability is.
    if not 0 <= confidence <= 1:
        raise DataError(f"{where}: the confidence is {confidence}, expected a probability from 0 to 1")
    return LABELS[name], confidence


def _read_ground_truth(path: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Labels (1 = AMF) and tumour domains of every image."""
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} holds {_kind(content)}, expected a list of images with their labels")
    truth: dict[str, tuple[list[int], list[int]]] = {}
    for number, entry in enumerate(content):
        try:
            image, domains = entry["image"], entry["tumordomains"]
            labels = [LABELS[name] for name in entry["labels"]]
            matching = len(labels) == len(domains)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{path}, entry {number} is not an image with labels and tumordomains: {error}"
            ) from error
        if not matching:
            raise DataError(f"{path}: {image} has {len(labels)} labels and {len(domains)} tumordomains")
        if image in truth:
            raise DataError(f"{path}: {image} is listed twice, expected one entry an image")
        truth[image] = labels, domains
    return truth


def _kind(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
