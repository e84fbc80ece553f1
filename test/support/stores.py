"""AnnotationStores, as TIAToolbox 2.1 and its versions before write them."""

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import shapely


def write_store(
    path: Path, annotations: Sequence[tuple[Any, Mapping[str, Any]]], compression: str | None = "zlib"
) -> Path:
    """Write geometries with their properties; a point has its place in cx and cy alone."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(
            "CREATE TABLE metadata (key TEXT UNIQUE, value TEXT);"
            "CREATE VIRTUAL TABLE rtree USING rtree(id, min_x, max_x, min_y, max_y);"
            "CREATE TABLE annotations (id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, "
            "cx FLOAT NOT NULL, cy FLOAT NOT NULL, geometry BLOB, properties TEXT, area FLOAT NOT NULL);"
        )
        settings = {"version": "1.0.1", "compression": compression, "compression_level": 9}
        database.executemany(
            "INSERT INTO metadata VALUES (?, ?)",
            [(key, json.dumps(value)) for key, value in settings.items()],
        )
        for number, (shape, properties) in enumerate(annotations):
            wkb = zlib.compress(shape.wkb, 9) if compression else shape.wkb
            row = (
                f"{number:08}-0000-4000-8000-000000000000",
                shape.geom_type,
                shape.centroid.x,
                shape.centroid.y,
                None if shape.geom_type == "Point" else wkb,
                json.dumps(properties),
                shape.area,
            )
            database.execute("INSERT INTO annotations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
            left, top, right, bottom = shape.bounds
            database.execute(
                "INSERT INTO rtree VALUES (?, ?, ?, ?, ?)", (number + 1, left, right, top, bottom)
            )
        database.commit()
    return path


def detections(centres: Sequence[tuple[float, float]], name: Any = "Mitotic_Figure") -> list[tuple[Any, Any]]:
    """Points as TIAToolbox's nucleus detector writes them: KongNet_Det_MIDOG_1 calls its one class so."""
    return [(shapely.Point(x, y), {"type": name, "probability": 0.995}) for x, y in centres]
