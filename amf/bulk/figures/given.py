"""The figures that a file gives, which of its entries are figures, and which of its slides is meant."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import shapely
import shapely.affinity
from shapely.errors import ShapelyError

from amf.data.words import names_mitotic_figure
from amf.errors import DataError

PATCH_UM = 32.0
"""The side of a patch; what is wider is no figure."""

SUFFIXES = frozenset(
    (
        ".svs", ".tif", ".tiff", ".ome", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi",
        ".dcm", ".isyntax", ".qptiff", ".png", ".jpg", ".jpeg", ".bmp",
    )
)  # fmt: skip
"""Of slides: what else stands behind a dot belongs to the name, as in those of TCGA."""


@dataclass(frozen=True)
class GivenFigure:
    """One given figure: where it is, or what is wrong with it.

    Attributes
    ----------
    name : what an error calls it.
    x, y : its centre, px of the finest level; of no meaning where there is a fault.
    known : columns that the output keeps.
    feature : the number of its GeoJSON feature.
    fault : why it cannot be scored; empty where it can.
    """

    name: str
    x: float = 0.0
    y: float = 0.0
    known: Mapping[str, Any] = field(default_factory=dict)
    feature: int | None = None
    fault: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a reader is asked for.

    Attributes
    ----------
    slide : whose figures.
    um_per_px : resolution of the slide's finest level.
    classes : names of the classes that are figures; by default those that name a mitotic figure.
    boxes : how a JSON's boxes are meant, corners [left, top, right, bottom] or [left, top, width, height]; by
        default the boxes tell.
    """

    slide: Path
    um_per_px: float = 0.25
    classes: tuple[str, ...] = ()
    boxes: Literal["corners", "size"] | None = None

    def takes(self, name: str | None) -> bool:
        """Whether an entry of a class is a figure; one without a class is, unless classes were named."""
        if self.classes:
            wanted = {one.strip().casefold() for one in self.classes}
            return name is not None and name.strip().casefold() in wanted
        return name is None or is_figure(name) is True

    def centre_of(self, outline: Any) -> tuple[float, float, str]:
        """The centre of a shape of shapely, px, and what is wrong with one that is wider than a patch."""
        left, top, right, bottom = outline.bounds
        x, y = round(outline.centroid.x, 6), round(outline.centroid.y, 6)  # 75 px, not 74.999…
        return x, y, self.too_wide(right - left, bottom - top)

    def too_wide(self, width_px: float, height_px: float) -> str:
        """What is wrong with an outline that is wider than a patch; empty for any other."""
        side = max(width_px, height_px) * self.um_per_px
        if side <= PATCH_UM:
            return ""
        um = f"{width_px * self.um_per_px:.0f} x {height_px * self.um_per_px:.0f} µm"
        return f"is {um} large, expected at most the {PATCH_UM:.0f} µm of a patch: it is a region, no figure"


def is_figure(name: str) -> bool | None:
    """Whether a class names a mitotic figure; of a derived one, as `Mitosis: Positive`, a part must."""
    parts = [names_mitotic_figure(part) for part in name.split(":")]
    return False if False in parts else True if True in parts else None


@dataclass
class GivenFigures:
    """All figures of one slide, in the order given.

    Attributes
    ----------
    figures : those that can be scored, and those with a fault.
    taken : classes of the figures: how many.
    passed_over : entries of the file that are no figures of this slide, by reason: how many.
    on_canvas : coordinates count from the canvas's corner, not from what the scanner's bounds say.
    collection : the GeoJSON FeatureCollection that they came in, each figure a feature, else None.
    notes : what the reader had to decide, a sentence each.
    """

    figures: list[GivenFigure] = field(default_factory=list)
    taken: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    on_canvas: bool = False
    collection: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, figure: GivenFigure, of_class: str | None = None) -> None:
        """Add a figure and count its class."""
        self.figures.append(figure)
        if not figure.fault:
            self.taken[of_class or "no class"] += 1

    def moved(self, x: float, y: float) -> "GivenFigures":
        """The same with all coordinates moved by so many px."""
        figures = [one if one.fault else replace(one, x=one.x + x, y=one.y + y) for one in self.figures]
        collection = self.collection
        if collection is not None:
            collection = {**collection, "features": [_moved(one, x, y) for one in collection["features"]]}
        return replace(self, figures=figures, collection=collection)

    def summary(self, path: Path) -> str:
        """What was taken and what was passed over, in one line."""
        faults = sum(bool(figure.fault) for figure in self.figures)
        text = f"{path}: {len(self.figures) - faults} figures{_listed(self.taken)}"
        if faults:
            text += f"; {faults} refused"
        if self.passed_over:
            text += f"; passed over {self.passed_over.total()}{_listed(self.passed_over)}"
        return text


def _moved(feature: Mapping[str, Any], x: float, y: float) -> dict[str, Any]:
    """A GeoJSON feature whose outlines are moved; one that is damaged stays as it was."""
    moved = dict(feature)
    for key in ("geometry", "nucleusGeometry"):
        with suppress(ShapelyError, TypeError, ValueError, KeyError, IndexError, AttributeError):
            shape = shapely.geometry.shape(feature[key])
            moved[key] = shapely.geometry.mapping(shapely.affinity.translate(shape, x, y))
    return moved


def _listed(counts: Counter[str]) -> str:
    shown = [f"{name} {count}" for name, count in counts.most_common(8)]
    more = len(counts) - len(shown)
    return f" ({', '.join(shown)}{f', {more} more' if more else ''})" if counts else ""


def of_slide(files: Iterable[str], path: Path, slide: Path) -> set[str]:
    """Which of the file names in `path` mean `slide`, whose folders decide where several have its name.

    Names are compared without folders, in one normal form of Unicode; then without suffix, then without case.

    Raises
    ------
    DataError : none does, or several do, as those of two folders or two scenes of one file.
    """
    names = sorted(set(files))
    for form in (_whole_name, _without_suffix, lambda name: _without_suffix(name).casefold()):
        if own := [name for name in names if form(_base(name)) == form(slide.name)]:
            return _nearest(own, path, slide)
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    raise DataError(f"{path} holds figures of {some or 'no slide'}, expected some of {slide.name}")


def _base(name: str) -> str:
    """The file's name; QuPath puts an image's own name behind it where a file holds several."""
    base = PurePath(name.replace("\\", "/")).name
    ends = [place.start() for place in re.finditer(" - ", base)]
    files = (base[:end] for end in reversed(ends))
    return next((file for file in files if PurePath(file).suffix.lower() in SUFFIXES), base)


def _whole_name(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _without_suffix(name: str) -> str:
    name = _whole_name(name)
    while (suffix := PurePath(name).suffix).lower() in SUFFIXES and suffix:
        name = name.removesuffix(suffix)
    return name


def _nearest(names: Sequence[str], path: Path, slide: Path) -> set[str]:
    """Those whose folders agree with the slide's for longest."""
    own = [_whole_name(part) for part in reversed(slide.absolute().parts[:-1])]

    def alike(name: str) -> int:
        folders = list(reversed(PurePath(_whole_name(name).replace("\\", "/")).parts[:-1]))
        same = [a == b for a, b in zip(folders, own, strict=False)]
        return same.index(False) if False in same else len(same)

    most = max(map(alike, names))
    found = {name for name in names if alike(name) == most}
    if len({_whole_name(name).replace("\\", "/") for name in found}) > 1:
        raise DataError(f"{path} holds figures of {' and of '.join(sorted(found)[:3])}: which is {slide}?")
    return found
