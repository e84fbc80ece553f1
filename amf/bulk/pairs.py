"""Which slides are scored, where their figures are, and how both are read where the files do not tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from amf.bulk.area import TISSUE
from amf.bulk.join import SLIDE_SUFFIXES, check_suffix
from amf.data.loading import read_frame, table_path
from amf.errors import DataError

MPP_RANGE = 0.01, 100.0
"""What a user may say of a slide, µm/px."""


@dataclass(frozen=True)
class Pair:
    """One slide, its figures, the file to write, and how they are read where the files do not tell.

    Attributes
    ----------
    mpp : µm/px of the finest level, in place of what the slide says.
    area : in which figures are counted: GeoJSON, or the word `tissue`; None for no counts.
    classes : the classes that are figures; by default those that name a mitotic figure.
    boxes : whether boxes are corners or sizes; by default they tell.
    """

    slide: Path
    figures: Path
    output: Path
    mpp: float | None = None
    area: Path | None = None
    classes: tuple[str, ...] = ()
    boxes: Literal["corners", "size"] | None = None


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a table: slide, figures, output and, where it has them, mpp and area.

    Files are relative to the table's folder; an area may be the word `tissue`.

    Raises
    ------
    DataError : a column or a cell is missing, a resolution is none, or an output cannot be written or is
        named twice.
    """
    table = read_frame(
        path, required=("slide", "figures", "output"), optional=("mpp", "area"), numbers=("mpp",)
    )
    pairs: dict[Path, Pair] = {}
    cells = table.astype(object).where(table.notna() & (table != ""), None)
    for number, row in enumerate(cells.to_dict("records"), start=1):
        pair = _pair(f"{path} row {number}", {str(k): v for k, v in row.items()}, path.parent)
        check_suffix(pair.output, SLIDE_SUFFIXES)
        if pair.output in pairs:
            raise DataError(f"{path} row {number}: {pair.output} is written twice, expected distinct outputs")
        pairs[pair.output] = pair
    return list(pairs.values())


def _pair(where: str, row: Mapping[str, Any], folder: Path) -> Pair:
    names = [row["slide"], row["figures"], row["output"]]
    if None in names:
        raise DataError(f"{where} has an empty cell, expected slide, figures and output")
    slide, figures, output = (folder / table_path(str(name)) for name in names)
    area = row.get("area")
    if area is not None:
        area = Path(TISSUE) if area == TISSUE else folder / table_path(str(area))
    return Pair(slide, figures, output, _mpp(where, row.get("mpp")), area)


def _mpp(where: str, cell: object) -> float | None:
    if cell is None:
        return None
    low, high = MPP_RANGE
    try:
        mpp = float(str(cell))
    except ValueError:
        mpp = 0.0
    if not low <= mpp <= high:
        raise DataError(f"{where}: mpp is {str(cell)!r}, expected µm/px from {low:g} to {high:g}")
    return mpp
