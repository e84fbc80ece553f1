"""Where the mitotic figures of a slide are, from whatever a laboratory's tools write.

A file is told by its content: QuPath's GeoJSON, MIDOG's JSON, SlideRunner's SQLite, a table (CSV, Parquet).
"""

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from amf.data.loading import read_frame, read_json
from amf.errors import DataError

PASSED_ON = ("id", "label", "domain")
"""Columns of a table of figures that the output keeps."""

MITOTIC_FIGURE = 1
"""MIDOG's category; the other, 2, is the look-alikes."""

NOT_FIGURES = ("root", "tile", "tmaCore")
"""QuPath's object types that never are a mitotic figure."""


@dataclass(frozen=True)
class GivenFigure:
    """One given figure: where it is, or what is wrong with it.

    Attributes
    ----------
    name : what an error calls it.
    x, y : its centre, px of the finest level; 0 where there is a fault.
    known : columns that the output keeps.
    feature : the number of its GeoJSON feature.
    fault : why it cannot be read; empty where it can.
    """

    name: str
    x: float = 0.0
    y: float = 0.0
    known: Mapping[str, Any] = field(default_factory=dict)
    feature: int | None = None
    fault: str = ""


@dataclass(frozen=True)
class GivenFigures:
    """All figures of one slide, in the order given.

    Attributes
    ----------
    passed_over : entries of the file that are no figures of this slide, by reason: how many.
    on_canvas : coordinates count from the canvas's corner, not from what the scanner's bounds say.
    collection : the GeoJSON FeatureCollection that they came in, else None.
    """

    figures: list[GivenFigure]
    passed_over: dict[str, int] = field(default_factory=dict)
    on_canvas: bool = False
    collection: dict[str, Any] | None = None


def read_figures(path: Path, slide: Path) -> GivenFigures:
    """Read the figures of `slide` from a file that may hold those of others, too.

    Raises
    ------
    DataError : no such file, of no known kind, or it knows other slides only.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
        if start.startswith(b"SQLite format 3\0"):
            return _read_sliderunner(path, slide)
        if start.startswith(b"PAR1") or start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
            return _read_table(path, slide, parquet=start.startswith(b"PAR1"))
        content = read_json(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return _read_midog(path, content, slide)
    return _read_geojson(path, content)


# ---- QuPath's GeoJSON


def _read_geojson(path: Path, content: Any) -> GivenFigures:
    """Points and polygons; the points of a MultiPoint are a figure each."""
    collection = content
    if isinstance(content, list):
        collection = {"type": "FeatureCollection", "features": content}
    elif isinstance(content, dict) and content.get("type") == "Feature":
        collection = {"type": "FeatureCollection", "features": [content]}
    if not isinstance(collection, dict) or not isinstance(collection.get("features"), list):
        found = ", ".join(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(
            f"{path} is JSON with {found or 'nothing'}, expected GeoJSON features or a MIDOG database"
        )
    figures: list[GivenFigure] = []
    passed_over: dict[str, int] = {}
    for number, feature in enumerate(collection["features"]):
        name = f"{path} feature {number + 1}"
        if not isinstance(feature, dict) or not isinstance(feature.get("properties") or {}, dict):
            figures.append(
                GivenFigure(name, known={"id": None}, feature=number, fault="is no GeoJSON feature")
            )
            continue
        properties = feature.get("properties") or {}
        kind = next(
            (properties[key] for key in ("objectType", "object_type", "type") if key in properties),
            "annotation",
        )
        if kind in NOT_FIGURES:
            reason = f"QuPath object {kind!r}"
            passed_over[reason] = passed_over.get(reason, 0) + 1
            continue
        known = {"id": str(feature["id"])} if "id" in feature else {"id": None}
        try:
            centres = _centres(feature.get("geometry"))
        except (DataError, TypeError, ValueError, KeyError, IndexError) as error:
            fault = str(error) if isinstance(error, DataError) else f"has a damaged geometry: {error!r}"
            figures.append(GivenFigure(name, known=known, feature=number, fault=fault))
        else:
            figures += [GivenFigure(name, x, y, known, number) for x, y in centres]
    return GivenFigures(figures, passed_over, collection=collection)


def _centres(geometry: Any) -> list[tuple[float, float]]:
    """The points of a geometry, or the centroid of its polygons."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "Point":
        return [_point(geometry["coordinates"])]
    if kind == "MultiPoint" and geometry["coordinates"]:
        return [_point(point) for point in geometry["coordinates"]]
    if kind == "Polygon":
        return [_centroid([geometry["coordinates"]])]
    if kind == "MultiPolygon":
        return [_centroid(geometry["coordinates"])]
    raise DataError(
        f"has the geometry {kind or geometry!r}, expected Point, MultiPoint, Polygon or MultiPolygon"
    )


def _point(coordinates: Sequence[Any]) -> tuple[float, float]:
    x, y = float(coordinates[0]), float(coordinates[1])
    if not (math.isfinite(x) and math.isfinite(y)):
        raise DataError(f"lies at ({x}, {y}), expected finite coordinates")
    return x, y


def _centroid(polygons: Iterable[Sequence[Sequence[Sequence[Any]]]]) -> tuple[float, float]:
    """Centre of the area, holes subtracted; of the corners where there is no area.

    Each edge (x0, y0) to (x1, y1) spans a triangle with the first corner, whose signed area weighs the
    triangle's centre.
    """
    area = moment_x = moment_y = 0.0
    corners: list[tuple[float, float]] = []
    for rings in polygons:
        for number, ring in enumerate(rings):
            points = [_point(point) for point in ring]
            corners += points[:-1] if len(points) > 1 and points[0] == points[-1] else points
            origin_x, origin_y = points[0]
            ring_area = ring_x = ring_y = 0.0
            for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
                cross = (x0 - origin_x) * (y1 - origin_y) - (x1 - origin_x) * (y0 - origin_y)
                ring_area += cross / 2
                ring_x += cross * (x0 + x1 + origin_x) / 6
                ring_y += cross * (y0 + y1 + origin_y) / 6
            # The first ring counts, the others are its holes, whichever way round either is drawn.
            sign = math.copysign(1, ring_area) * (1 if number == 0 else -1)
            area, moment_x, moment_y = (
                area + sign * ring_area,
                moment_x + sign * ring_x,
                moment_y + sign * ring_y,
            )
    if not corners:
        raise DataError("has a polygon without corners")
    if area <= 1e-9:
        xs, ys = zip(*corners, strict=True)
        return sum(xs) / len(xs), sum(ys) / len(ys)
    return moment_x / area, moment_y / area


# ---- MIDOG's JSON


def _read_midog(path: Path, content: dict[str, Any], slide: Path) -> GivenFigures:
    """Category 1 of the slide's image; a box is [left, top, right, bottom], not COCO's width and height."""
    try:
        images = {image["id"]: str(image["file_name"]) for image in content["images"]}
        own = _of_slide(images.values(), path, slide)
        figures: list[GivenFigure] = []
        passed_over = {"other slides": 0, "not a mitotic figure": 0}
        for annotation in content["annotations"]:
            if images[annotation["image_id"]] not in own:
                passed_over["other slides"] += 1
            elif annotation["category_id"] != MITOTIC_FIGURE:
                passed_over["not a mitotic figure"] += 1
            else:
                left, top, right, bottom = map(float, annotation["bbox"])
                figures.append(
                    GivenFigure(
                        f"{path} annotation {annotation.get('id')}",
                        (left + right) / 2,
                        (top + bottom) / 2,
                        {"id": str(annotation.get("id"))},
                    )
                )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is not a MIDOG database (images, categories, annotations): {error!r}"
        ) from None
    return GivenFigures(figures, _counted(passed_over))


# ---- SlideRunner's SQLite


def _read_sliderunner(path: Path, slide: Path) -> GivenFigures:
    """Every annotation that is not deleted, at the mean of its coordinates, px of OpenSlide's canvas."""
    try:
        # Read-only: a database in use, or on a read-only share, is opened without a lock file.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            files = dict(database.execute("SELECT uid, filename FROM Slides"))
            own = _of_slide(map(str, files.values()), path, slide)
            uids = {uid for uid, file in files.items() if str(file) in own}
            rows = database.execute(
                "SELECT a.uid, a.slide, a.deleted, AVG(c.coordinateX), AVG(c.coordinateY) FROM Annotations a "
                "LEFT JOIN Annotations_coordinates c ON c.annoId = a.uid GROUP BY a.uid ORDER BY a.uid"
            ).fetchall()
    except sqlite3.Error as error:
        raise DataError(f"{path} is not a SlideRunner database: {error}") from error
    figures: list[GivenFigure] = []
    passed_over = {"other slides": 0, "deleted": 0}
    for uid, of, deleted, x, y in rows:
        name, known = f"{path} annotation {uid}", {"id": str(uid)}
        if of not in uids:
            passed_over["other slides"] += 1
        elif deleted:
            passed_over["deleted"] += 1
        elif x is None or y is None:
            figures.append(GivenFigure(name, known=known, fault="has no coordinates"))
        else:
            figures.append(GivenFigure(name, float(x), float(y), known))
    return GivenFigures(figures, _counted(passed_over), on_canvas=True)


# ---- tables


def _read_table(path: Path, slide: Path, parquet: bool) -> GivenFigures:
    """Columns x and y; `slide` or `image` tells the slide where the table holds several."""
    table = read_frame(path, parquet)
    if not {"x", "y"} <= set(table.columns):
        raise DataError(
            f"{path} has the columns {', '.join(map(str, table))}; expected 'x' and 'y', px, among them "
            "(or GeoJSON, a MIDOG database or a SlideRunner database)"
        )
    rows = table.astype(object).where(table.notna() & (table != ""), None).to_dict("records")
    passed_over = {"other slides": 0}
    column = next((name for name in ("slide", "image") if name in table.columns), None)
    own = _of_slide([str(row[column]) for row in rows], path, slide) if column and rows else set()
    kept = [name for name in PASSED_ON if name in table.columns]
    figures: list[GivenFigure] = []
    for number, row in enumerate(rows, start=1):
        if column and str(row[column]) not in own:
            passed_over["other slides"] += 1
            continue
        name = f"{path} row {number}"
        known = {key: row[key] for key in kept}
        try:
            if known.get("label") is not None:
                label = float(known["label"])
                known["label"] = int(label) if label.is_integer() else label
            x, y = _point((row["x"], row["y"]))
        except (DataError, TypeError, ValueError, OverflowError):
            known = {key: value if key != "label" else None for key, value in known.items()}
            fault = f"has x = {row['x']!r}, y = {row['y']!r}, label = {row.get('label')!r}: expected numbers"
            figures.append(GivenFigure(name, known=known, fault=fault))
        else:
            figures.append(GivenFigure(name, x, y, known))
    return GivenFigures(figures, _counted(passed_over))


# ---- shared


def _of_slide(files: Iterable[str], path: Path, slide: Path) -> set[str]:
    """Which of the file names mean `slide`: by whole name or, where none does, without the suffix.

    Raises
    ------
    DataError : none does.
    """
    names = set(files)
    if own := {name for name in names if PurePath(name.replace("\\", "/")).name == slide.name}:
        return own
    if own := {name for name in names if PurePath(name.replace("\\", "/")).stem == slide.stem}:
        return own
    some = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
    raise DataError(f"{path} holds figures of {some or 'no slide'}, expected some of {slide.name}")


def _counted(passed_over: Mapping[str, int]) -> dict[str, int]:
    return {reason: count for reason, count in passed_over.items() if count}
