"""Tables of figures: CSV or Parquet with x and y, corners or boxes in px, and QuPath's measurement tables."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from amf.bulk.figures.features import NOT_FIGURES, plain
from amf.bulk.figures.given import PATCH_UM, GivenFigure, GivenFigures, Wanted, is_figure, of_slide
from amf.data.loading import read_frame
from amf.data.words import label_of
from amf.errors import DataError

PASSED_ON = ("id", "label", "domain")
"""Columns of a table of figures that the output keeps."""

PLACES = (("x", "y"), ("centroidxpx", "centroidypx"))
PLACES_UM = ("centroidx\u00b5m", "centroidy\u00b5m")
CORNERS = (("x1", "y1", "x2", "y2"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
SIZES = (("width", "height"), ("w", "h"))
SLIDE = ("slide", "image", "slidename", "filename", "imagename")
CLASS = ("class", "classification", "category", "classname")
CENTROIDS = [f"Centroid {axis} {unit}" for axis in "XY" for unit in ("µm", "px")]
NUMBERS = ("x", "y", "x1", "y1", "x2", "y2", *CENTROIDS)
"""Columns in which a decimal comma is one."""


def read_table(path: Path, wanted: Wanted, parquet: bool) -> GivenFigures:
    """A figure a row; a column of slides tells whose it is where the table holds several.

    Raises
    ------
    DataError : no readable table, no columns of places, other slides only, or x and y may be a corner.
    """
    table = read_frame(path, parquet, numbers=NUMBERS)
    columns: dict[str, str] = {}
    for name in map(str, table):
        columns.setdefault(_key(name), name)
    place, per_px, kind = _place(path, columns, wanted, list(map(str, table)))
    cells = table.astype(object).where(table.notna() & (table != ""), None)
    rows = [{str(name): cell for name, cell in row.items()} for row in cells.to_dict("records")]
    slide = next((columns[key] for key in SLIDE if key in columns), None)
    of_class = _class_column(columns, rows)
    if of_class is not None and of_class == columns.get("label"):
        del columns["label"]
    own = of_slide([_slide_of(row[slide]) for row in rows], path, wanted.slide) if slide and rows else set()
    given = GivenFigures(notes=[f"{path}: {kind}"] if kind else [])
    for number, row in enumerate(rows, start=1):
        cell = row[of_class] if of_class else None
        class_name = None if cell is None else str(cell).strip()
        kind = plain(str(row.get(columns.get("objecttype", ""), "")))
        if slide and _slide_of(row[slide]) not in own:
            given.passed_over["other slides"] += 1
        elif kind in (*NOT_FIGURES, "image"):
            given.passed_over[f"QuPath {kind}"] += 1
        elif not wanted.takes(class_name):
            given.passed_over[class_name or "no class"] += 1
        else:
            figure = _figure(f"{path} row {number}", row, columns, place, per_px, wanted)
            fault = figure.fault or (_region(row, columns, wanted) if kind == "annotation" else "")
            given.add(replace(figure, fault=fault), class_name)
    return given


def _class_column(columns: Mapping[str, str], rows: list[dict[str, Any]]) -> str | None:
    """The column of classes: by its name, or `type` or `label` where its words tell figures from others."""
    if named := next((columns[key] for key in CLASS if key in columns), None):
        return named
    for column in (columns[key] for key in ("type", "label") if key in columns):
        if any(is_figure(str(row[column])) is not None and not _is_label(row[column]) for row in rows):
            return column
    return None


def _is_label(cell: object) -> bool:
    try:
        return label_of(cell) is not None
    except DataError:
        return False


def _region(row: Mapping[str, Any], columns: Mapping[str, str], wanted: Wanted) -> str:
    """What is wrong with an annotation of QuPath's table that is larger than a patch, or may be."""
    if plain(str(row.get(columns.get("roi", ""), "point"))) in ("point", "points", "none"):
        return ""
    for key, um2 in (("area\u00b5m2", 1.0), ("areapx2", wanted.um_per_px**2)):
        if key in columns:
            area = float(row[columns[key]] or 0) * um2
            large = area > PATCH_UM**2
            return f"has {area:.0f} µm², more than a patch: it is a region, no figure" if large else ""
    return "is an outline, expected a point, or its area among the columns"


def _key(name: str) -> str:
    """A header in lower case without spaces and signs; QuPath's µ in either of its characters, or as u."""
    key = "".join(filter(str.isalnum, name.casefold().replace("\u03bc", "\u00b5")))
    return f"{key.removesuffix('um')}\u00b5m" if key.startswith("centroid") and key.endswith("um") else key


def _slide_of(cell: object) -> str:
    """The slide in a cell: a window of it, as `amf slide` writes, has its place behind `#`."""
    return str(cell).partition("#x=")[0]


def _place(
    path: Path, columns: Mapping[str, str], wanted: Wanted, names: list[str]
) -> tuple[list[str], float, str]:
    """The columns of the place, px in one unit of them, and how they are read where that is not plain."""
    for corners in CORNERS:
        if set(corners) <= columns.keys() and wanted.boxes != "size":
            return [columns[key] for key in corners], 1.0, f"{', '.join(corners)} are corners of boxes"
    size = next((keys for keys in SIZES if set(keys) <= columns.keys()), None)
    for keys in PLACES:
        if set(keys) <= columns.keys():
            if keys == ("x", "y") and size:
                if wanted.boxes != "size":
                    raise DataError(
                        f"{path} has x and y beside {' and '.join(size)}, so they may be a corner: say "
                        "--boxes size where they are, or leave the sizes out where they are the centre"
                    )
                read_as = "x and y are read as the corners of boxes"
                return [columns[key] for key in (*keys, *size)], 1.0, read_as
            return [columns[key] for key in keys], 1.0, ""
    if set(PLACES_UM) <= columns.keys():
        return [columns[key] for key in PLACES_UM], 1 / wanted.um_per_px, "centroids are in µm"
    raise DataError(
        f"{path} has the columns {', '.join(names)}; expected x and y (px), QuPath's centroids, or boxes"
    )


def _figure(
    name: str,
    row: Mapping[str, Any],
    columns: Mapping[str, str],
    place: list[str],
    per_px: float,
    wanted: Wanted,
) -> GivenFigure:
    known: dict[str, Any] = {key: row[columns[key]] for key in PASSED_ON if key in columns}
    if "id" not in known and "objectid" in columns:
        known["id"] = row[columns["objectid"]]
    try:
        if "label" in known:
            known["label"] = _label(known["label"])
        numbers = [float(row[column]) * per_px for column in place]
        if not all(map(math.isfinite, numbers)):
            raise ValueError
    except (DataError, TypeError, ValueError, OverflowError):
        found = ", ".join(f"{column} = {row[column]!r}" for column in place)
        label = f", label = {row[columns['label']]!r}" if "label" in columns else ""
        known = {key: value if key != "label" else None for key, value in known.items()}
        return GivenFigure(name, known=known, fault=f"has {found}{label}: expected numbers")
    x, y, *rest = numbers
    if not rest:
        return GivenFigure(name, x, y, known)
    is_size = place[2].casefold() in ("width", "w")
    width, height = rest if is_size else (rest[0] - x, rest[1] - y)
    fault = wanted.too_wide(width, height) if min(width, height) >= 0 else "has a box with exchanged corners"
    return GivenFigure(name, x + width / 2, y + height / 2, known, fault=fault)


def _label(value: object) -> float | int | None:
    """A label in words or as a number; a mean of votes stays one."""
    try:
        return label_of(value)
    except DataError:
        number = float(str(value))
        return int(number) if number.is_integer() else number
