"""How many figures a mm² of tissue holds: answers counted in the regions of an area."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from amf.bulk.figures.features import class_of, features_of
from amf.bulk.figures.given import PATCH_UM
from amf.bulk.figures.read import read_any_json
from amf.data.slide import Slide
from amf.data.tissue import tissue_mm2
from amf.errors import DataError
from amf.files import written_whole

TISSUE = "tissue"
"""The area that is measured rather than given."""


@dataclass(frozen=True)
class Region:
    """A part of the slide; `shape` is its outline, px as QuPath counts, or None for all there is."""

    name: str
    mm2: float
    shape: Any = None

    def holds(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which places, (N,) and (N,) px, lie in it: (N,) bool."""
        return np.ones(len(x), bool) if self.shape is None else shapely.intersects_xy(self.shape, x, y)


def read_regions(area: Path, slide: Slide, mpp: float) -> list[Region]:
    """The regions in which figures are counted; where there are several, the last is all of them together.

    Parameters
    ----------
    area : GeoJSON with polygons, px as QuPath counts; or the word `tissue`, for what the slide shows: every
        figure is part of it.
    mpp : µm/px of the slide's finest level.

    Raises
    ------
    DataError : the file holds no polygon that is wider than a patch, or the slide shows no tissue.
    """
    if str(area) != TISSUE:
        return _polygons(area, mpp)
    mm2 = tissue_mm2(slide, mpp)
    if not mm2:
        raise DataError(f"{slide.path} shows no tissue: name the area by a GeoJSON file")
    return [Region(TISSUE, mm2)]


def _polygons(path: Path, mpp: float) -> list[Region]:
    content = read_any_json(path)
    if content is None:
        raise DataError(f"{path} is no JSON, expected GeoJSON with an area's outline, or the word {TISSUE}")
    features = list(features_of(path, content))
    shapes: list[tuple[str, Any]] = []
    for number, feature in enumerate(features, start=1):
        shape = _outline(feature)
        if shape is None:
            continue
        left, top, right, bottom = shape.bounds
        if max(right - left, bottom - top) * mpp > PATCH_UM:
            shapes.append((_name(feature) or f"region {number}", shape))
    if not shapes:
        raise DataError(
            f"{path} holds no polygon wider than {PATCH_UM:.0f} µm, expected GeoJSON with an area's outline"
        )
    print(f"{path}: {len(shapes)} regions; passed over {len(features) - len(shapes)} other features")
    if len(shapes) > 1:
        shapes.append(("all", shapely.union_all([shape for _, shape in shapes])))
    return [Region(name, shape.area * mpp**2 / 1e6, shape) for name, shape in shapes]


def _outline(feature: Any) -> Any:
    """The polygons of a feature, None where it has none; outlines that cross themselves are mended."""
    try:
        shape = shapely.make_valid(shapely.geometry.shape(feature["geometry"]))
    except (shapely.errors.ShapelyError, TypeError, ValueError, KeyError, IndexError, AttributeError):
        return None
    return shape if shape.area > 0 else None


def _name(feature: dict[str, Any]) -> str | None:
    properties = feature.get("properties") or {}
    return str(properties["name"]) if properties.get("name") else class_of(properties)


def regions_to_json(regions: Sequence[Region]) -> list[list[Any]]:
    """Regions as JSON holds them: name, mm² and outline as WKB in hex."""
    return [
        [region.name, region.mm2, None if region.shape is None else shapely.to_wkb(region.shape, hex=True)]
        for region in regions
    ]


def regions_from_json(regions: Sequence[Sequence[Any]]) -> list[Region]:
    """What `regions_to_json` made."""
    return [Region(name, mm2, shapely.from_wkb(shape)) for name, mm2, shape in regions]


def count(answers: Sequence[Mapping[str, Any]], regions: Sequence[Region]) -> list[dict[str, Any]]:
    """A row a region, and one for the figures in none of them, which has no area.

    Parameters
    ----------
    answers : of each figure `x` and `y`, px as QuPath counts, and its `class`.
    """
    x, y = (np.array([answer[axis] for answer in answers], dtype=float) for axis in "xy")
    atypical = np.array([answer["class"] == "atypical" for answer in answers], dtype=bool)
    inside = [region.holds(x, y) for region in regions]
    rows = [
        _row(region.name, region.mm2, atypical[held]) for region, held in zip(regions, inside, strict=True)
    ]
    outside = ~np.logical_or.reduce(inside)
    return rows + ([_row("outside", None, atypical[outside])] if outside.any() else [])


def _row(name: str, mm2: float | None, atypical: NDArray[np.bool_]) -> dict[str, Any]:
    figures, of_them = len(atypical), int(atypical.sum())
    row = {"region": name, "area_mm2": mm2 and round(mm2, 4), "figures": figures, "atypical": of_them}
    rates = {
        "figures_per_mm2": mm2 and round(figures / mm2, 3),
        "atypical_per_mm2": mm2 and round(of_them / mm2, 3),
    }
    return {**row, "normal": figures - of_them, **rates}


def counts_path(output: Path) -> Path:
    """Where the counts of an output are written."""
    return output.with_name(f"{output.stem}.counts.csv")


def write_counts(output: Path, answers: Sequence[Mapping[str, Any]], regions: Sequence[Region]) -> None:
    """Count the answers of an output in the regions; print the counts and write them beside it."""
    rows = count(answers, regions)
    with written_whole(counts_path(output)) as partial:
        pd.DataFrame(rows).to_csv(partial, index=False, lineterminator="\n")
    for row in rows:
        rates = "; {figures_per_mm2:g} figures and {atypical_per_mm2:g} atypical a mm² of {area_mm2:g} mm²"
        print(
            f"{row['region']}: {row['figures']} figures, {row['atypical']} atypical"
            + ("" if row["area_mm2"] is None else rates.format_map(row))
        )
    print(f"wrote {counts_path(output)}")
