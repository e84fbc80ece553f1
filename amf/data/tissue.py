"""How much tissue a slide shows, told by its colour: glass and what lies outside are grey."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from amf.data.slide import Level, Slide

OVERVIEW_UM_PER_PX = 8.0
"""Of the picture that tissue is told from, at the finest."""

SATURATION = 0.04, 0.12
"""Otsu's threshold is held between these: below is glass, above is stained tissue on every slide."""

GAP_PX, SPECK_PX = 7, 5
"""Gaps in tissue and specks on glass that are no wider, px of the overview, do not count."""

BLOCK_PX = 2048


def tissue_mm2(slide: Slide, mpp: float) -> float:
    """Measure the tissue on a coarse picture of the slide.

    Parameters
    ----------
    mpp : µm/px of the slide's finest level.
    """
    level = slide.level_for(OVERVIEW_UM_PER_PX / mpp)
    factor = max(1, int(OVERVIEW_UM_PER_PX / (mpp * level.downsample)))
    saturation = _saturation(_overview(level, factor))  # (H, W) float in [0, 1]
    low, high = SATURATION
    mask = Image.fromarray((saturation > min(max(_otsu(saturation), low), high)).astype(np.uint8) * 255)
    closed = mask.filter(ImageFilter.MaxFilter(GAP_PX)).filter(ImageFilter.MinFilter(GAP_PX))
    opened = closed.filter(ImageFilter.MinFilter(SPECK_PX)).filter(ImageFilter.MaxFilter(SPECK_PX))
    heights = np.minimum(factor, level.height - factor * np.arange(opened.height))  # the last may be cut
    widths = np.minimum(factor, level.width - factor * np.arange(opened.width))
    px = heights @ (np.asarray(opened) > 0) @ widths
    return float(px * (mpp * level.downsample) ** 2 / 1e6)


def _overview(level: Level, factor: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the level in blocks, each px the mean of `factor` x `factor`."""
    found = np.empty((-(-level.height // factor), -(-level.width // factor), 3), np.uint8)
    side = factor * max(1, BLOCK_PX // factor)
    for top in range(0, level.height, side):
        for left in range(0, level.width, side):
            size = min(side, level.width - left), min(side, level.height - top)
            small = np.asarray(Image.fromarray(level.region(left, top, *size)).reduce(factor))
            y, x = top // factor, left // factor
            found[y : y + small.shape[0], x : x + small.shape[1]] = small
    return found


def _saturation(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(H, W, 3) → (H, W): how far a colour is from grey, 0 for black."""
    highest = pixels.max(axis=2).astype(float)
    return (highest - pixels.min(axis=2)) / np.maximum(highest, 1)


def _otsu(values: NDArray[np.float64]) -> float:
    """The threshold that leaves the least variance within both sides, of values in [0, 1]."""
    counts, edges = np.histogram(values, bins=256, range=(0, 1))
    centres = (edges[:-1] + edges[1:]) / 2
    below, above = counts.cumsum(), counts.sum() - counts.cumsum()
    total = counts * centres
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = total.cumsum() / below - (total.sum() - total.cumsum()) / above
        between = np.nan_to_num(below * above * apart**2)
    return float(edges[1:][between.argmax()])
