"""Answers as GeoJSON that QuPath opens by drag and drop: the given features back, each with its class."""

import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amf.bulk.figures.given import GivenFigures  # imports shapely, which `amf predict` does without

CLASSIFICATION = {
    "atypical": {"name": "Atypical mitotic figure", "color": [213, 94, 0]},
    "normal": {"name": "Normal mitotic figure", "color": [0, 114, 178]},
}
"""QuPath needs both keys. Orange and blue are told apart by the colour-blind, too; so are the report's."""

MEASUREMENT = "P(atypical)"
IMAGE, MODEL, BUNDLE, THRESHOLD = "Image", "Model", "Bundle SHA-256", "Threshold"
"""Keys of a feature's metadata, where QuPath keeps text."""

Points = Mapping[int, tuple[str, float, float]]
"""Number of a figure -> the id by which its patch is found again, and x and y, px as QuPath counts."""


def outline(given: "GivenFigures", points: Points) -> dict[str, Any]:
    """What is written but for the answers: a FeatureCollection, its features with their figures' numbers.

    A given feature keeps its id, geometry, name, measurements and place in the order. Figures that did not
    come as GeoJSON become points.

    Parameters
    ----------
    points : of the figures that could be read.
    """
    if given.collection is None:
        features = [
            (_point(f"{number} {image}", x, y, {"objectType": "detection"}), number)
            for number, (image, x, y) in sorted(points.items())
        ]
        return {"collection": None, "features": features}
    answered = {figure.feature: number for number, figure in enumerate(given.figures)}
    as_given = [(one, answered.get(place)) for place, one in enumerate(given.collection["features"])]
    return {"collection": {**given.collection, "features": []}, "features": as_given}


def write_geojson(
    path: Path,
    outlined: Mapping[str, Any],
    answers: Mapping[int, Mapping[str, Any]],
    model: Mapping[str, str],
) -> None:
    """Write a FeatureCollection; a given feature without an answer is given back as it was.

    Parameters
    ----------
    outlined : from `outline`.
    answers : number of the figure -> its row of the table.
    model : metadata of every feature that has an answer.
    """
    features = [
        _classified(feature, answers[number], model) if number in answers else feature
        for feature, number in outlined["features"]
        if number in answers or outlined["collection"] is not None
    ]
    collection = {**(outlined["collection"] or {"type": "FeatureCollection"}), "features": features}
    text = json.dumps(collection, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")  # half a surrogate as JSON escapes it


def _point(name: str, x: float, y: float, properties: dict[str, Any]) -> dict[str, Any]:
    """A point whose id depends on its name alone, so that the same run gives the same file."""
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
        "geometry": {"type": "Point", "coordinates": [x, y]},
        "properties": properties,
    }


def _classified(
    feature: Mapping[str, Any], answer: Mapping[str, Any], model: Mapping[str, str]
) -> dict[str, Any]:
    properties = dict(feature.get("properties") or {})
    properties["classification"] = CLASSIFICATION[answer["class"]]
    properties["measurements"] = _with_measurement(properties.get("measurements"), answer["confidence"])
    known = properties.get("metadata")
    properties["metadata"] = {
        **(known if isinstance(known, dict) else {}),
        **model,
        IMAGE: answer["image"],
    }
    return {**feature, "properties": properties}


def _with_measurement(measurements: Any, confidence: float) -> dict[str, Any] | list[Any]:
    """The measurements with ours; a list stays one, and what QuPath could not read is left out."""
    if isinstance(measurements, str):  # GeoPandas writes objects as text
        with suppress(ValueError):
            measurements = json.loads(measurements)
    if isinstance(measurements, list):  # as QuPath wrote them before 0.4, and still reads them
        named = [entry for entry in measurements if isinstance(entry, dict) and "name" in entry]
        kept = [entry for entry in named if entry["name"] != MEASUREMENT]
        return [*kept, {"name": MEASUREMENT, "value": confidence}]
    return {**(measurements if isinstance(measurements, dict) else {}), MEASUREMENT: confidence}
