"""Files of figures as other tools write them, and what is read from them."""

import json
from pathlib import Path
from typing import Any

from amf.bulk.figures.given import Wanted
from amf.bulk.figures.read import read_figures

CENTRES = [(x, y) for y in (81, 231, 381) for x in (75, 225, 375, 525)]
UNIT = {"type": "FeatureCollection"}


def read(path: Path, content: Any = None, **options: Any) -> Any:
    """The figures of slide.tif at 0.25 µm/px in a file of that content."""
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_figures(path, Wanted(path.parent / options.pop("slide", "slide.tif"), **options))


def places(given: Any) -> list[tuple[float, float]]:
    return [(figure.x, figure.y) for figure in given.figures if not figure.fault]


def faults(given: Any) -> list[str]:
    return [figure.fault for figure in given.figures if figure.fault]


def square(x: float, y: float, half: float = 10) -> list[list[list[float]]]:
    left, top, right, bottom = x - half, y - half, x + half, y + half
    return [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]


def feature(geometry: dict[str, Any], of_class: Any = None, **properties: Any) -> dict[str, Any]:
    if of_class is not None:
        properties["classification"] = of_class
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def point(x: float, y: float, of_class: Any = None, **properties: Any) -> dict[str, Any]:
    return feature({"type": "Point", "coordinates": [x, y]}, of_class, **properties)
