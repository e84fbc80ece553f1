"""Read what is to be evaluated: the platform's job outputs or a table of predictions, with the truth.

Both become one table of figures, one row each:

    image (str), page (Int64, <NA> for a single patch), label (int64, 1 = AMF), predicted (int64, 1 = AMF),
    confidence (float64, P(atypical)), and where known domain, slide, species and tumor ("not published" where
    it is empty).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import pandas as pd
from pandas import DataFrame, Series

from amf.data.loading import check_whole, read_frame, read_json
from amf.data.reviews import is_review, read_reviews
from amf.errors import DataError, account
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_SOCKET, socket_of

CLASSES = {"normal": 0, "atypical": 1}


@dataclass(frozen=True)
class Predictions:
    """Figures with prediction and truth, ready to be evaluated.

    Attributes
    ----------
    source : the file or folder the predictions came from.
    figures : the table described at the head of this module.
    notes : what a reader of the numbers should know, one sentence each.
    """

    source: Path
    figures: DataFrame
    notes: list[str] = field(default_factory=list)


def read(source: Path, truth: Path | Sequence[Path] | None = None) -> Predictions:
    """Read predictions together with the truth.

    Parameters
    ----------
    source : a folder in the platform's layout (predictions.json and <pk>/output/…), or a table
        (.csv, .parquet, .json) with the columns image, class, confidence and optionally page, label, domain
        and slide.
    truth : the organisers' ground_truth.json, or a table with image, label and optionally page, domain and
        slide. By default the folder's own ground_truth.json, or the label column of the table. Or what
        experts downloaded from the page of `amf review`, one file or more: figures without a majority of
        votes are left out then, and a note says how many.

    Raises
    ------
    DataError : a file is missing or malformed, the organisers would refuse it, a figure has no truth, or all
        figures are of one class, for which no balanced accuracy is defined.
    """
    truths = [truth] if isinstance(truth, Path) else list(truth or [])
    if len(truths) > 1 and not all(map(is_review, truths)):
        raise DataError(
            f"{truths[1]}: several files can be the truth only where all are votes of `amf review`"
        )
    if source.is_dir():
        predictions = _read_platform(source, truths[0] if truths else source / "ground_truth.json")
    else:
        predictions = _read_tables(source, truths)
    counts = predictions.figures["label"].value_counts()
    if len(counts) == 0:
        raise DataError(
            f"{source} holds no predictions, expected at least one atypical and one normal figure"
        )
    if len(counts) == 1:
        name = "atypical" if counts.index[0] == 1 else "normal"
        raise DataError(
            f"{source}: the truth of all {counts.sum()} figures is {name}, expected both classes: "
            "balanced accuracy is not defined without"
        )
    return predictions


def _read_platform(folder: Path, truth_path: Path) -> Predictions:
    jobs = read_json(folder / "predictions.json")
    if not isinstance(jobs, list):
        raise DataError(f"{folder / 'predictions.json'} holds {_kind(jobs)}, expected a list of jobs")
    truth = _load_ground_truth(truth_path)
    rows: list[dict[str, Any]] = []
    seen: dict[str, str] = {}  # job -> its image
    for number, job in enumerate(jobs):
        pk, image, output_path = _job_sockets(job, f"{folder / 'predictions.json'}, job {number}")
        where = f"job {pk} ({image})"
        if pk in seen or image in seen.values():
            raise DataError(f"{where} is a second job of that name or image, expected one for each image")
        seen[pk] = image
        if image not in truth:
            raise DataError(f"{where}: {truth_path} has no truth for this image, expected one for every job")
        labels, domains = truth[image]
        path = folder / pk / "output" / output_path
        outputs = read_json(path)
        if not isinstance(outputs, list) or len(outputs) != len(labels):
            found = f"{len(outputs)} predictions" if isinstance(outputs, list) else _kind(outputs)
            raise DataError(
                f"{where}: {path} holds {found}, expected a list of {len(labels)} as in the truth"
            )
        for page, (output, label, domain) in enumerate(zip(outputs, labels, domains, strict=True)):
            predicted, confidence = _check_output(output, f"{where}, prediction {page}")
            rows.append(
                {
                    "image": image,
                    "page": page,
                    "label": label,
                    "predicted": predicted,
                    "confidence": confidence,
                    "domain": domain,
                }
            )
    notes = []
    if unused := len(truth) - len(seen):
        notes.append(
            f"{unused} of {len(truth)} images in {truth_path.name} have no job and were not evaluated."
        )
    account(f"figures of {folder}", sum(len(truth[image][0]) for image in seen.values()), len(rows), 0)
    columns = ["image", "page", "label", "predicted", "confidence", "domain"]
    return Predictions(folder, DataFrame(rows, columns=columns).astype({"page": "Int64"}), notes)


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
    for key in ("class", "confidence"):
        if key not in output:
            raise DataError(f"{where} has the keys {sorted(output)}, expected class and confidence")
    name, confidence = output["class"], output["confidence"]
    if not isinstance(name, str) or name not in CLASSES:
        raise DataError(f"{where}: the class is {name!r}, expected 'normal' or 'atypical'")
    if not isinstance(confidence, float):
        raise DataError(
            f"{where}: the confidence is {confidence!r}, expected a real number: "
            "a whole one needs a fraction too, as in 1.0"
        )
    # The organisers' own check lets a value beyond 1 through, but no probability is.
    if not 0 <= confidence <= 1:
        raise DataError(f"{where}: the confidence is {confidence}, expected a probability from 0 to 1")
    return CLASSES[name], confidence


def _load_ground_truth(path: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Labels (1 = AMF) and tumour domains of every image."""
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} holds {_kind(content)}, expected a list of images with their labels")
    truth: dict[str, tuple[list[int], list[int]]] = {}
    for number, entry in enumerate(content):
        try:
            image, names, domains = entry["image"], entry["labels"], entry["tumordomains"]
            labels = [CLASSES[name] for name in names]
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


def _read_tables(source: Path, truths: list[Path]) -> Predictions:
    table = load_table(source, required=["image", "class", "confidence"])
    given = len(table)
    unknown = ~table["class"].isin(list(CLASSES))
    _refuse_rows(source, table["class"], unknown, "the class is {!r}, expected 'normal' or 'atypical'")
    table["confidence"] = _numbers(source, table["confidence"])
    outside = ~table["confidence"].between(0, 1)
    _refuse_rows(source, table["confidence"], outside, "the confidence is {}, expected a number from 0 to 1")
    table["predicted"] = table["class"].map(CLASSES).astype("int64")

    notes, unvoted = list[str](), 0
    if truths and is_review(truths[0]):
        majority, notes = _read_majority(truths)
        voted = table.merge(
            majority[["image", "page"]], on=["image", "page"]
        )  # in the order of the predictions
        unvoted = len(table) - len(voted)
        notes.append(f"{unvoted} of {len(table)} predictions have no majority of votes.")
        table, truth = voted, _match(voted, majority, source, truths[0])
    elif truths:
        [truth_path] = truths
        truth = _check_truth(truth_path, _load_truth_table(truth_path))
        truth = _match(table, truth, source, truth_path)
    elif "label" in table:
        truth = _check_truth(source, table)
    else:
        raise DataError(f"{source} has no column 'label': add one, or name the truth with --truth")
    columns = ["image", "page", "label", "predicted", "confidence"]
    table["label"] = truth["label"]
    for column in ("domain", "slide", "species", "tumor"):
        if column in truth:
            table[column] = truth[column]
            columns.append(column)
    account(f"rows of {source}", given, len(table), unvoted)
    return Predictions(source, table[columns], notes)


def _read_majority(paths: list[Path]) -> tuple[DataFrame, list[str]]:
    """Truth by the majority of experts, with slides where all are known; and what to know of the votes."""
    reviews = read_reviews(paths)
    truth = reviews.figures[reviews.figures["label"].notna()].reset_index(drop=True)
    columns = ["image", "page", "label", *(["slide"] if (truth["slide"] != "").all() else [])]
    return truth[columns].astype({"page": "Int64", "label": "int64"}), list(reviews.notes)


def _load_truth_table(path: Path) -> DataFrame:
    if path.suffix == ".json":
        content = read_json(path)
        if isinstance(content, list) and any("labels" in row for row in content if isinstance(row, dict)):
            # the organisers' ground truth
            rows = [
                (image, page, label, domain)
                for image, (labels, domains) in _load_ground_truth(path).items()
                for page, (label, domain) in enumerate(zip(labels, domains, strict=True))
            ]
            table = DataFrame(rows, columns=["image", "page", "label", "domain"])
            return table.astype({"page": "Int64"})
    return load_table(path, required=["image", "label"])


def _check_truth(path: Path, truth: DataFrame) -> DataFrame:
    labels = _numbers(path, truth["label"])
    _refuse_rows(path, labels, ~labels.isin([0, 1]), "the label is {}, expected 0 (NMF) or 1 (AMF)")
    for column in truth.columns.intersection(["domain", "slide"]):
        _refuse_rows(path, truth["image"], truth[column].isna(), f"{{!r}} has no {column}")
    for column in truth.columns.intersection(["species", "tumor"]):
        truth = truth.assign(**{column: truth[column].fillna("not published")})
    return truth.assign(label=labels.astype("int64"))


def _match(table: DataFrame, truth: DataFrame, source: Path, truth_path: Path) -> DataFrame:
    """The rows of `truth` that belong to the rows of `table`, in the order of `table`.

    Images are matched by their whole path or, where that is unknown to the truth, by file name.
    """
    wanted, known = table[["image", "page"]].copy(), truth.copy()
    if not wanted["image"].isin(known["image"]).all():
        wanted["image"] = wanted["image"].map(_file_name)
        known["image"] = known["image"].map(_file_name)
    for keys, path in ((wanted, source), (known, truth_path)):
        twice = keys.duplicated(["image", "page"])
        _refuse_rows(
            path, keys["image"], twice, "{!r} is listed twice by file name, expected distinct images"
        )
    merged = wanted.merge(known, how="left", on=["image", "page"], indicator=True)
    missing = merged["_merge"] == "left_only"
    _refuse_rows(source, table["image"], missing, f"{truth_path} has no truth for {{!r}}")
    return merged.drop(columns="_merge")


def load_table(path: Path, required: list[str]) -> DataFrame:
    """A table with a clean index, text where text is meant and a `page` column.

    Raises
    ------
    DataError : no table, a column of `required` is missing, or an (image, page) is there twice.
    """
    if path.suffix == ".json":
        table = _frame_of_json(path)
    elif path.suffix in (".csv", ".parquet"):
        table = read_frame(path)
        table = table.mask(table == "") if path.suffix == ".csv" else table
    else:
        raise DataError(f"{path} is neither a folder nor a .csv, .parquet or .json table")
    for column in required:
        if column not in table:
            raise DataError(f"{path} has the columns {', '.join(map(str, table))}; expected {column!r} too")
    if "page" not in table:
        table["page"] = pd.NA
    for column in table.columns.intersection(["confidence", "x", "y"]):
        table[column] = _numbers(path, table[column])
    page = _numbers(path, table["page"])
    check_whole(page, str(path))
    table["page"] = page.astype("Int64")
    _refuse_rows(path, table["image"], table["image"].isna(), "the image is empty, expected a name")
    table["image"] = table["image"].astype(str)
    twice = table.duplicated(["image", "page"])
    _refuse_rows(path, table["image"], twice, "{!r} is listed twice, expected one row a figure")
    return table


def _frame_of_json(path: Path) -> DataFrame:
    content = read_json(path)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise DataError(f"{path} is no table: expected a list of objects, one a figure")
    return DataFrame(content)


def _numbers(path: Path, column: "Series[Any]") -> "Series[Any]":
    numbers = pd.to_numeric(column, errors="coerce")
    _refuse_rows(
        path, column, numbers.isna() & column.notna(), f"the {column.name} is {{!r}}, expected a number"
    )
    return numbers


def _refuse_rows(path: Path, values: "Series[Any]", wrong: "Series[bool]", message: str) -> None:
    """Raise for the first row marked wrong; row 1 is the first below the header."""
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        more = f" ({wrong.sum()} such rows)" if wrong.sum() > 1 else ""
        raise DataError(f"{path}, row {position + 1}: {message.format(values.iloc[position])}{more}")


def _file_name(path: str) -> str:
    return PurePath(path).name


def _kind(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    names = {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "a number")
