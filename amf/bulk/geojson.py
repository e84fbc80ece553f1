"""Answers as GeoJSON that QuPath opens by drag and drop: the given features back, each with its class."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from amf.bulk.figures.given import GivenFigures

CLASSIFICATION = {
    "atypical": {"name": "Atypical mitotic figure", "color": [213, 94, 0]},
    "normal": {"name": "Normal mitotic figure", "color": [0, 114, 178]},
}
"""QuPath needs both keys. Orange and blue are told apart by the colour-blind, too; so are the report's."""

MEASUREMENT = "P(atypical)"
IMAGE, MODEL, BUNDLE = "Image", "Model", "Bundle SHA-256"
"""Keys of a feature's metadata, where QuPath keeps text."""


class Answer(NamedTuple):
    """What the model says of one figure; `image` is the id by which its patch is found again."""

    image: str
    x: float
    y: float
    label: str
    confidence: float


def write_geojson(
    path: Path, given: GivenFigures, answers: Sequence[Answer | None], model: str, bundle: str
) -> None:
    """Write a FeatureCollection.

    A given feature keeps its id, geometry, name, measurements and place in the order; one without an answer
    is given back as it was. Figures that did not come as GeoJSON become points.

    Parameters
    ----------
    answers : one for each of the given figures; None for one that could not be scored.
    model, bundle : name and SHA-256 of the bundle.
    """
    metadata = {MODEL: model, BUNDLE: bundle}
    collection = dict(given.collection or {"type": "FeatureCollection"})
    features = _points(answers) if given.collection is None else _given(given, answers)
    collection["features"] = [
        feature if answer is None else _classified(feature, answer, metadata) for feature, answer in features
    ]
    path.write_text(json.dumps(collection, ensure_ascii=False) + "\n", encoding="utf-8")


def _points(answers: Sequence[Answer | None]) -> Iterator[tuple[dict[str, Any], Answer | None]]:
    for number, answer in enumerate(answers):
        if answer is not None:
            yield _point(f"{number} {answer.image}", answer.x, answer.y, {"objectType": "detection"}), answer


def _given(
    given: GivenFigures, answers: Sequence[Answer | None]
) -> Iterator[tuple[dict[str, Any], Answer | None]]:
    assert given.collection is not None
    of_feature = {figure.feature: answer for figure, answer in zip(given.figures, answers, strict=True)}
    for number, feature in enumerate(given.collection["features"]):
        yield feature, of_feature.get(number)


def _point(name: str, x: float, y: float, properties: dict[str, Any]) -> dict[str, Any]:
    """A point whose id depends on its name alone, so that the same run gives the same file."""
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, name)),
        "geometry": {"type": "Point", "coordinates": [x, y]},
        "properties": properties,
    }


def _classified(feature: dict[str, Any], answer: Answer, metadata: dict[str, str]) -> dict[str, Any]:
    properties = dict(feature.get("properties") or {})
    properties["classification"] = CLASSIFICATION[answer.label]
    properties["measurements"] = _with_measurement(properties.get("measurements"), answer.confidence)
    known = properties.get("metadata")
    properties["metadata"] = {
        **(known if isinstance(known, dict) else {}),
        **metadata,
        IMAGE: answer.image,
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
