"""Read what is to be evaluated: the platform's job outputs or a table of predictions, with the truth.

Both become one table of figures, one row each:

    image (str), page (Int64, <NA> for a single patch), label (int64, 1 = AMF), predicted (int64, 1 = AMF),
    confidence (float64, P(atypical)), and where known domain, slide, species and tumor ("not published" where
    it is empty).

A prediction without truth, or a truth without prediction, is an error, or named in a note. Of the platform's
layout, an image without a job is a note: the organisers' truth covers more images than one phase.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pandas import DataFrame

from amf.bulk.answer_table import FIGURE, NUMBERS, TRAITS, read_answer_table
from amf.data.loading import read_json, refuse_rows, table_path
from amf.data.reviews import is_review, read_reviews
from amf.data.words import labels_in
from amf.errors import DataError, account
from amf.evaluation.platform_jobs import JOBS, TRUTH, lists, read_jobs, truth_table


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


def read(
    source: Path,
    truth: Path | Sequence[Path] | None = None,
    allow_missing: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Predictions:
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
    allow_missing : evaluate the figures that have both, and name the others in a note.
    columns : what the tables call some columns: our name → theirs.

    Raises
    ------
    DataError : a file is missing or malformed, the organisers would refuse it, a figure has no truth or no
        prediction, or all figures are of one class, for which no balanced accuracy is defined.
    """
    truths = [truth] if isinstance(truth, Path) else list(truth or [])
    if len(truths) > 1 and not all(map(is_review, truths)):
        raise DataError(
            f"{truths[1]}: several files can be the truth only where all are votes of `amf review`"
        )
    if source.is_dir():
        predictions = _read_platform(source, truths[0] if truths else source / TRUTH, allow_missing)
    elif source.name == JOBS and lists(read_json(source), "inputs"):
        raise DataError(f"{source} is the platform's list of jobs: name the folder that holds it and them")
    else:
        predictions = _read_tables(source, truths, allow_missing, columns or {})
    label = predictions.figures["label"]
    if label.empty:
        raise DataError(
            f"{source} holds no predictions, expected at least one atypical and one normal figure"
        )
    if label.nunique() == 1:
        name = "atypical" if label.iloc[0] else "normal"
        raise DataError(
            f"{source}: the truth of all {len(label)} figures is {name}, expected both classes: "
            "balanced accuracy is not defined without"
        )
    return predictions


def _read_platform(folder: Path, truth: Path, allow_missing: bool) -> Predictions:
    figures, without_truth, without_job = read_jobs(folder, truth)
    notes = [
        *_left_out(folder / JOBS, "images", without_truth, f"truth in {truth}", allow_missing),
        *_left_out(truth, "images", without_job, f"job in {JOBS}", allowed=True),
    ]
    return Predictions(folder, figures, notes)


def _read_tables(
    source: Path, truths: list[Path], allow_missing: bool, columns: Mapping[str, str]
) -> Predictions:
    of_truth = {name: theirs for name, theirs in columns.items() if name not in ("class", *NUMBERS[1:])}
    own = {name: theirs for name, theirs in columns.items() if not (truths and name in ("label", *TRAITS))}
    table = read_answer_table(source, ["image", "class", "confidence"], own)
    given = len(table)
    table["predicted"] = labels_in(table["class"], str(source))
    notes: list[str] = []
    left_out = 0
    if truths:
        voted = is_review(truths[0])
        truth, notes = _majority(truths) if voted else (_truth_of(truths[0], of_truth), [])
        table, unknown, unscored = _match(table, truth, source, truths[0])
        left_out = len(unknown)
        if voted:
            notes.append(f"{left_out} of {given} predictions have no majority of votes.")
        else:
            notes += _left_out(source, "figures", unknown, f"truth in {truths[0]}", allow_missing)
        notes += _left_out(truths[0], "figures", unscored, f"prediction in {source}", allow_missing)
    elif "label" in table:
        table = _check_truth(source, table)
    else:
        raise DataError(f"{source} has no column 'label': add one, or name the truth with --truth")
    account(f"rows of {source}", given, len(table), left_out)
    kept = [*FIGURE, "label", "predicted", "confidence", *(name for name in TRAITS if name in table)]
    return Predictions(source, table[kept], notes)


def _left_out(where: Path, unit: str, names: list[str], lacking: str, allowed: bool) -> list[str]:
    """A note on the figures that lack a counterpart; DataError unless that is allowed."""
    if not names:
        return []
    some = ", ".join(repr(name) for name in names[:3]) + (", …" if len(names) > 3 else "")
    found = f"{len(names)} {unit} of {where} have no {lacking} ({some})"
    if not allowed:
        raise DataError(f"{found}: expected one for each; --allow-missing evaluates the others")
    return [f"{found} and are not evaluated."]


# ---- truth


def _majority(paths: list[Path]) -> tuple[DataFrame, list[str]]:
    """Truth by the majority of experts, with slides where all are known; and what to know of the votes."""
    reviews = read_reviews(paths)
    truth = reviews.figures[reviews.figures["label"].notna()].reset_index(drop=True)
    columns = [*FIGURE, "label", *(["slide"] if (truth["slide"] != "").all() else [])]
    return truth[columns].astype({"page": "Int64", "label": "int64"}), list(reviews.notes)


def _truth_of(path: Path, columns: Mapping[str, str]) -> DataFrame:
    if path.suffix == ".json" and lists(read_json(path), "labels"):
        return truth_table(path)
    return _check_truth(path, read_answer_table(path, ["image", "label"], columns))


def _check_truth(path: Path, truth: DataFrame) -> DataFrame:
    truth = truth.assign(label=labels_in(truth["label"], str(path)))
    for column in truth.columns.intersection(["domain", "slide"]):
        refuse_rows(path, truth["image"], truth[column].isna(), f"{{!r}} has no {column}")
    for column in truth.columns.intersection(["species", "tumor"]):
        truth[column] = truth[column].fillna("not published")
    return truth


def _match(
    table: DataFrame, truth: DataFrame, source: Path, truth_path: Path
) -> tuple[DataFrame, list[str], list[str]]:
    """Give the rows of `table` their truth.

    Images are matched by their whole path or, where more are known to the truth so, by file name.

    Returns
    -------
    The rows that have a truth, in the order of `table`; the images without truth; those without prediction.
    """
    known = truth[[*FIGURE, "label", *(name for name in TRAITS if name in truth)]]
    wanted = table.drop(columns=[*TRAITS, "label"], errors="ignore").assign(row=range(len(table)))
    by_name = [part.assign(image=part["image"].map(_file_name)) for part in (wanted, known)]
    if by_name[0]["image"].isin(by_name[1]["image"]).sum() > wanted["image"].isin(known["image"]).sum():
        wanted, known = by_name
    for part, path in ((wanted, source), (known, truth_path)):
        twice = part.duplicated([name for name in (*FIGURE, "id") if name in part])
        refuse_rows(path, part["image"], twice, "{!r} is listed twice, expected distinct images")
    merged = wanted.merge(known, how="outer", on=FIGURE, indicator=True)
    matched = merged[merged["_merge"] == "both"].sort_values("row", ignore_index=True)
    matched["image"] = table["image"].iloc[matched["row"].astype(int)].to_numpy()
    unknown, unscored = (
        merged.loc[merged["_merge"] == f"{side}_only", "image"] for side in ("left", "right")
    )
    return matched.astype({"label": "int64", "predicted": "int64"}), unknown.tolist(), unscored.tolist()


def _file_name(path: str) -> str:
    return table_path(path).name
