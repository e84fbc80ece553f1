"""Patches of a slide: 32 µm around a figure, 128 px whatever the slide's resolution."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amf.errors import DataError, JobError
from amf.model.preprocess import PATCH_PX

PATCH_UM_PER_PX = 0.25
"""Of the published patches."""

MPP_RANGE = 0.05, 5.0
"""What a microscope's resolution may be, µm/px: TIFF writers put 72 dpi (353 µm/px) where they know none."""

SQUARE = 0.01
"""Up to this relative difference of their sides pixels are square."""

SAME_SCALE = 0.005
"""Up to this relative difference a patch is cut as it lies; to resample it would only blur it."""

CACHE_BYTES = 256 << 20
"""Of decoded tiles: two rows of 256 px tiles of a slide 130,000 px wide."""

ReadPixels = Callable[[int, int, int, int], NDArray[np.uint8]]
"""(left, top, width, height) px of a level, all of it inside → (height, width, 3) uint8 RGB."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is 1.0 for the finest."""

    width: int
    height: int
    downsample: float
    region: ReadPixels


@dataclass(frozen=True)
class Slide:
    """An open slide; several threads may read from it.

    Attributes
    ----------
    levels : finest first.
    um_per_px : of the finest level, along x and y, as the file says; None where it does not.
    offset : (x, y) px from the canvas's corner to the corner of what was scanned: QuPath counts from the
        latter, OpenSlide and this class from the former.
    tile_height : px of the finest level; figures read in the order of tile rows decode each tile once.
    left_out : other images of the file, which are not read; empty where there is none.
    """

    path: Path
    levels: tuple[Level, ...]
    um_per_px: tuple[float, float] | None
    offset: tuple[int, int]
    tile_height: int
    left_out: str = ""

    @property
    def mpp(self) -> float | None:
        """µm/px of the finest level; None where the file does not say, or says what is no microscope's.

        Raises
        ------
        DataError : the pixels are not square.
        """
        if self.um_per_px is None or not MPP_RANGE[0] <= self.um_per_px[0] <= MPP_RANGE[1]:
            return None
        x, y = self.um_per_px
        if abs(y / x - 1) > SQUARE:
            raise DataError(
                f"{self.path} has pixels of {x:g} x {y:g} µm, expected square ones: "
                "--mpp takes them for squares"
            )
        return x

    def patch(self, x: int, y: int, mpp: float, side_px: int = PATCH_PX) -> NDArray[np.uint8]:
        """The patch around a figure, from the coarsest level that is fine enough, resampled where need be.

        Parameters
        ----------
        x, y : px of the finest level. mpp : µm/px of the finest level. side_px : of the patch, at 0.25 µm/px.

        Returns
        -------
        (side_px, side_px, 3) uint8 RGB; black outside the slide, as published patches are, and white where a
        scanner left a gap.

        Raises
        ------
        JobError : the figure lies outside the slide, or its pixels cannot be read.
        """
        full = self.levels[0]
        if not (0 <= x < full.width and 0 <= y < full.height):
            raise JobError(f"({x}, {y}) lies outside {self.path}, which is {full.width} x {full.height} px")
        level = self.level_for(PATCH_UM_PER_PX / mpp)
        scale = PATCH_UM_PER_PX / mpp / level.downsample
        side = side_px * scale  # px of the level
        centre_x, centre_y = x / level.downsample, y / level.downsample
        if abs(scale - 1) <= SAME_SCALE:
            left, top = round(centre_x) - side_px // 2, round(centre_y) - side_px // 2
            return self._padded(level, left, top, side_px)
        # As a whole patch starts half its side before its centre, so does this one, between two px maybe.
        left_exact, top_exact = centre_x - side / 2, centre_y - side / 2
        margin = math.ceil(3 * max(1.0, scale))  # what Lanczos's kernel reaches beyond
        left, top = math.floor(left_exact) - margin, math.floor(top_exact) - margin
        region = Image.fromarray(self._padded(level, left, top, math.ceil(side) + 1 + 2 * margin))
        box = (left_exact - left, top_exact - top, left_exact - left + side, top_exact - top + side)
        return np.asarray(region.resize((side_px, side_px), Image.Resampling.LANCZOS, box=box))

    def level_for(self, downsample: float) -> Level:
        """The coarsest level not coarser than wanted, else the finest."""
        fine = [level for level in self.levels if level.downsample <= downsample * (1 + SAME_SCALE)]
        return fine[-1] if fine else self.levels[0]

    def _padded(self, level: Level, left: int, top: int, side: int) -> NDArray[np.uint8]:
        """(side, side, 3) uint8 of a level, black outside it."""
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + side, level.width), min(top + side, level.height)
        try:
            inside = level.region(x0, y0, x1 - x0, y1 - y0)
        except Exception as error:  # whatever a reader meets in a file is that file's fault
            raise JobError(f"{self.path} cannot be read around ({left}, {top}): {error}") from error
        if inside.shape[:2] == (side, side):
            return inside
        padded = np.zeros((side, side, 3), dtype=np.uint8)
        padded[y0 - top : y1 - top, x0 - left : x1 - left] = inside
        return padded


def on_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 RGBA → (H, W, 3) uint8 RGB: a gap of the scan, which is transparent, is background."""
    alpha = pixels[..., 3:].astype(np.uint16)
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(pixels[..., :3])
    return ((pixels[..., :3] * alpha + 127) // 255 + (255 - alpha)).astype(np.uint8)
