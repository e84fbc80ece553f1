"""The figures of a slide as items that the engine scores, and the file that they end in."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from amf.bulk.figures.given import GivenFigure, GivenFigures, Wanted
from amf.bulk.figures.read import read_figures
from amf.bulk.geojson import BUNDLE, MODEL, THRESHOLD, outline
from amf.bulk.items import Item, printable
from amf.data.open_slide import open_slide
from amf.data.patches import window_name
from amf.data.slide import PATCH_UM_PER_PX, SAME_SCALE, Slide
from amf.errors import DataError, JobError
from amf.inference.predict import Predictor
from amf.model.preprocess import PATCH_PX


@dataclass(frozen=True)
class SlideFigure(Item):
    """One figure of an open slide, as an error calls it; x and y are px of the canvas."""

    slide: Slide | None = None
    name: str = ""
    x: int = 0
    y: int = 0
    mpp: float = PATCH_UM_PER_PX

    unit: ClassVar[str] = "figure"

    @property
    def is_stack(self) -> bool:
        """Never: a figure is one patch."""
        return False

    def read(self) -> NDArray[np.uint8]:
        """Its patch: (1, 128, 128, 3) uint8 RGB; JobError for a figure that is damaged or off the slide."""
        assert self.slide is not None
        if self.fault:
            raise JobError(f"{self.name} {self.fault}")
        try:
            return self.slide.patch(self.x, self.y, self.mpp)[None]
        except JobError as error:
            raise JobError(f"{self.name}: {error}") from error


@dataclass(frozen=True)
class SlideWork:
    """What is to be scored on one slide.

    Attributes
    ----------
    mpp : µm/px of the slide's finest level.
    items : the figures in the order of the slide's tiles, so that each tile is decoded once.
    figures : as they were given.
    notes : what a user should know of resolution and of entries passed over, a sentence each.
    """

    slide: Slide
    mpp: float
    items: list[SlideFigure]
    figures: GivenFigures
    notes: list[str]


def open_work(
    slide_path: Path,
    figures_path: Path,
    mpp: float | None = None,
    classes: tuple[str, ...] = (),
    boxes: Literal["corners", "size"] | None = None,
) -> SlideWork:
    """Open a slide and read its figures.

    Parameters
    ----------
    mpp : µm/px of the slide's finest level, in place of what the file says.
    classes, boxes : see `Wanted`.

    Raises
    ------
    DataError : either file is unusable, or the resolution is unknown.
    """
    slide = open_slide(slide_path)
    resolution, notes = _resolution(slide, mpp)
    figures = read_figures(figures_path, Wanted(slide_path, resolution, classes, boxes))
    if figures.on_canvas:  # QuPath counts from the corner of what was scanned, and so do answers
        figures = figures.moved(-slide.offset[0], -slide.offset[1])
    notes += [*figures.notes, figures.summary(figures_path)]
    items = [_item(slide, figure, number, resolution) for number, figure in enumerate(figures.figures)]
    half = round(PATCH_PX * PATCH_UM_PER_PX / resolution / 2)  # px: a patch starts this far above its centre
    items.sort(key=lambda item: ((item.y - half) // slide.tile_height, item.x, item.y, item.number))
    return SlideWork(slide, resolution, items, figures, notes)


def _resolution(slide: Slide, given: float | None) -> tuple[float, list[str]]:
    notes = (
        [f"{slide.path}: other images in the file are left out: {slide.left_out}"] if slide.left_out else []
    )
    mpp = given if given is not None else slide.mpp
    if mpp is None:
        raise DataError(
            f"{slide.path} does not say its resolution: give it with --mpp, in µm/px of its finest level "
            "(0.25 is usual at 40 x)"
        )
    said = slide.um_per_px if given is not None else None
    if said is not None and max(abs(mpp / side - 1) for side in said) > SAME_SCALE:
        of_file = f"{said[0]:g}" if said[0] == said[1] else f"{said[0]:g} x {said[1]:g}"
        notes.append(f"{slide.path}: --mpp {mpp:g} µm/px wins over the file's {of_file}")
    if mpp > PATCH_UM_PER_PX * 1.2:
        notes.append(
            f"{slide.path}: {mpp:g} µm/px is coarser than the {PATCH_UM_PER_PX} that the figures of the "
            "training had; they are enlarged, and the answers are less certain than they look"
        )
    return mpp, notes


def _item(slide: Slide, figure: GivenFigure, number: int, mpp: float) -> SlideFigure:
    name = printable(slide.path)
    if figure.fault:
        truth = {"slide": name, "x": None, "y": None, **figure.known}
        return SlideFigure(figure.name, slide.path, truth, number, figure.fault, slide, figure.name)
    x, y = _whole(figure.x + slide.offset[0]), _whole(figure.y + slide.offset[1])
    truth = {"slide": name, "x": figure.x, "y": figure.y, **figure.known}
    image = window_name(name, x, y, mpp)
    return SlideFigure(image, slide.path, truth, number, "", slide, figure.name, x, y, mpp)


def _whole(coordinate: float) -> int:
    """The nearest px; the lower one of two, as the published coordinates cut a half off."""
    return math.ceil(coordinate - 0.5)


def part_header(work: SlideWork, predictor: Predictor, digest: str) -> dict[str, Any]:
    """What a part keeps so that the figures can be written as GeoJSON: the features but for their answers.

    Parameters
    ----------
    digest : SHA-256 that identifies the bundle.
    """
    points = {
        item.number: (item.image, item.truth["x"], item.truth["y"])
        for item in work.items
        if item.truth["x"] is not None
    }
    spec = predictor.spec
    model = {MODEL: spec.name, BUNDLE: digest, THRESHOLD: repr(spec.threshold)}
    return {"outline": outline(work.figures, points), "model": model}
