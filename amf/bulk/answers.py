"""What `amf predict` or `amf slide` answered, and what an expert has changed of it since, in QuPath say.

The model's class follows from P(atypical) and the threshold. Where the file gives another class, an expert
has corrected it: a vote.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pandas import DataFrame

from amf.bulk.answer_table import read_answer_table
from amf.bulk.figures.features import class_of, features_of
from amf.bulk.figures.given import is_figure
from amf.bulk.figures.read import read_any_json
from amf.bulk.geojson import BUNDLE, IMAGE, MEASUREMENT, THRESHOLD
from amf.data.patches import file_of
from amf.data.words import label_of
from amf.errors import DataError
from amf.model.digest import FILE_NAME, file_digest

OTHER = "other"
COLUMNS = ["image", "page", "id", "slide", "x", "y", "confidence", "class", "threshold", "bundle"]


@dataclass(frozen=True)
class Answers:
    """All figures of one file.

    Attributes
    ----------
    figures : one row a figure: image (str), page (Int64), id (str, tells figures of one image apart), slide
        (str or None), x and y (float or NaN), confidence (float64), predicted (int64, 1 = AMF, by the
        threshold), vote (Int64: 1 or 0 where an expert gave another class, else <NA>).
    threshold : atypical from this confidence on.
    written : when the file was, ISO 8601: the time of its votes.
    notes : what was left out or corrected, and where the threshold is from, a sentence each.
    """

    figures: DataFrame
    threshold: float
    written: str
    notes: list[str]


def read_answers(path: Path, model: Path) -> Answers:
    """Read what `amf predict` or `amf slide` wrote.

    Parameters
    ----------
    model : the bundle whose threshold is taken where the file names none.

    Raises
    ------
    DataError : not such a file, no figure in it, or answers of several thresholds.
    BundleError : the bundle's threshold is needed, and it is unusable.
    """
    content = None if path.suffix == ".parquet" else read_any_json(path)
    notes: list[str] = []
    if content is None or _is_table(content):
        table = read_answer_table(path, ["image", "class", "confidence"])
    else:
        rows = [_row_of(path, feature) for feature in features_of(path, content)]
        table = DataFrame([row for row in rows if row])
        if unscored := rows.count({}):
            notes.append(f"{unscored} features of {path} were never scored.")
    if table.empty:
        raise DataError(f"{path} holds no figures, expected some to look at")
    table = table.reindex(columns=COLUMNS).astype({"page": "Int64"})
    if not table["confidence"].between(0, 1).all():
        raise DataError(f"{path} has a confidence that is no number from 0 to 1")
    threshold, where_from = _threshold(path, table, model)
    notes += where_from

    given = table["class"].astype(object).where(table["class"].notna(), None).map(_label_of)
    other = Counter(table.loc[given == OTHER, "class"])
    figures = table[given != OTHER].reset_index(drop=True)
    if other:
        listed = ", ".join(f"{name} {count}" for name, count in other.most_common())
        notes.append(f"{other.total()} figures have another class and are left out ({listed}).")
    figures["predicted"] = (figures["confidence"] >= threshold).astype("int64")
    votes = given[given != OTHER].reset_index(drop=True).astype("Int64")
    figures["vote"] = votes.mask(votes == figures["predicted"])
    if corrected := int(figures["vote"].notna().sum()):
        notes.append(f"{corrected} figures have another class than the model's: an expert's vote.")
    figures["id"] = figures["id"].astype(object).where(figures["id"].notna(), "").astype(str)
    again = figures.groupby(["image", "page", "id"], dropna=False).cumcount()
    figures["id"] = figures["id"].where(again == 0, figures["id"] + "#" + (again + 1).astype(str))
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    return Answers(figures.drop(columns=["class", "threshold", "bundle"]), threshold, written, notes)


def _is_table(content: Any) -> bool:
    """Whether JSON is a list of rows, as `amf predict` writes it, or nothing that holds features."""
    if not isinstance(content, list):
        return not (isinstance(content, dict) and {"features", "geometry"} & content.keys())
    return not any(isinstance(entry, dict) and "geometry" in entry for entry in content)


def _row_of(path: Path, feature: Any) -> dict[str, Any]:
    """What a feature says under the names of COLUMNS; empty for one that was never scored."""
    try:
        properties = feature.get("properties") or {}
        metadata = _mapping(properties.get("metadata"))
        measurements = _mapping(properties.get("measurements"))
        if IMAGE not in metadata or MEASUREMENT not in measurements:
            return {}
        image = str(metadata[IMAGE])
        x, y = image.rpartition("#x=")[2].split(",")[:2]
        return {
            "image": image,
            "id": feature.get("id"),
            "slide": file_of(image),
            "x": float(x),
            "y": float(y.removeprefix("y=")),
            "confidence": float(measurements[MEASUREMENT]),
            "class": class_of(properties),
            "threshold": float(metadata[THRESHOLD]) if THRESHOLD in metadata else None,
            "bundle": metadata.get(BUNDLE),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no GeoJSON that `amf slide` wrote: {error!r}") from error


def _mapping(value: Any) -> Mapping[str, Any]:
    """An object of a feature, as QuPath writes it: lists of names and values; GeoPandas: text."""
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, list):
        return {entry["name"]: entry["value"] for entry in value}
    return value or {}


def _threshold(path: Path, table: DataFrame, model: Path) -> tuple[float, list[str]]:
    """The threshold that the answers name, or the bundle's, and a note on where it is from."""
    named = table["threshold"].dropna().unique()
    if len(named) > 1:
        raise DataError(f"{path} names {len(named)} thresholds, expected the answers of one bundle")
    if len(named):
        return float(named[0]), []
    from amf.model.bundle import read_spec  # imports torch, which most pages do without

    threshold = read_spec(model).threshold
    notes = [f"{path} names no threshold: that of {model} is taken, {threshold:.4f}."]
    bundles = {str(digest).split()[0] for digest in table["bundle"].dropna()}
    if bundles - {file_digest(model / FILE_NAME)}:
        notes.append("The answers are of another bundle: name it with --model.")
    return threshold, notes


def _label_of(name: object) -> int | str | None:
    """The label that a class means; None for no class or a derived one, OTHER for what is no such figure."""
    try:
        return label_of(name)
    except DataError:
        return None if is_figure(str(name)) else OTHER
