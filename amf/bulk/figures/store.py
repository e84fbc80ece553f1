"""TIAToolbox's AnnotationStore: SQLite, whose rows have a geometry in WKB and properties in JSON."""

import json
import zlib
from pathlib import Path
from typing import Any

import shapely
from shapely.errors import ShapelyError

from amf.bulk.figures.databases import columns_of, opened
from amf.bulk.figures.features import read_features
from amf.bulk.figures.given import GivenFigure, GivenFigures, Wanted

COLUMNS = {"key", "cx", "cy", "geometry", "properties"}
"""Of its table `annotations`, in every version."""


def is_store(path: Path) -> bool:
    """Whether a database is such a store."""
    with opened(path) as database:
        return columns_of(database, "annotations") >= COLUMNS


def read_store(path: Path, wanted: Wanted) -> GivenFigures:
    """Every annotation whose type names a mitotic figure, px of OpenSlide's canvas."""
    features: list[dict[str, Any]] = []
    damaged: list[GivenFigure] = []
    with opened(path) as database:
        said = dict(database.execute("SELECT key, value FROM metadata")).get("compression")
        compressed = json.loads(said or "null") == "zlib"
        for key, x, y, geometry, properties in database.execute(
            "SELECT key, cx, cy, geometry, properties FROM annotations ORDER BY id"
        ):
            try:
                shape = shapely.Point(x, y) if geometry is None else _shape(geometry, compressed)
                features.append(_feature(str(key), shape, dict(json.loads(properties or "{}"))))
            except (ValueError, TypeError, zlib.error, ShapelyError) as error:
                name, fault = f"{path} annotation {key}", f"is damaged: {error}"
                damaged.append(GivenFigure(name, known={"id": str(key)}, fault=fault))
    given = read_features(path, features, wanted)
    given.on_canvas = True
    for figure in damaged:
        given.add(figure)
    return given


def _shape(geometry: bytes | str, compressed: bool) -> Any:
    """The geometry of anything but a point, of which the store keeps the place alone."""
    if isinstance(geometry, str):
        return shapely.from_wkt(geometry)
    return shapely.from_wkb(zlib.decompress(geometry) if compressed else geometry)


def _feature(key: str, shape: Any, properties: dict[str, Any]) -> dict[str, Any]:
    """An annotation as QuPath's GeoJSON has it."""
    of_class = properties.get("type", properties.get("class"))
    return {
        "type": "Feature",
        "id": key,
        "geometry": json.loads(shapely.to_geojson(shape)),
        "properties": {
            "objectType": "detection",
            "classification": None if of_class is None else {"name": str(of_class), "color": [0, 0, 0]},
            "measurements": {key: value for key, value in properties.items() if isinstance(value, float)},
        },
    }
