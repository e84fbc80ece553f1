"""Patches of a slide: 32 µm around a figure, 128 px whatever the slide's resolution.

A slide is whatever OpenSlide reads, or a plain TIFF (in strips, say), as MIDOG's regions of interest are.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray
from PIL import Image

from amf.errors import DataError, JobError
from amf.inference.tiff import planes_described
from amf.model.preprocess import PATCH_PX

PATCH_UM_PER_PX = 0.25
"""Of the published patches."""

MPP_RANGE = 0.05, 5.0
"""What a microscope's resolution may be, µm/px: TIFF writers put 72 dpi (353 µm/px) where they know none."""

SAME_SCALE = 0.005
"""Up to this relative difference a patch is cut as it lies; to resample it would only blur it."""

CACHE_BYTES = 256 << 20
"""OpenSlide's decoded tiles: two rows of 256 px tiles of a slide 130,000 px wide."""

MAX_PLAIN_BYTES = 4 << 30
"""A plain TIFF that cannot be mapped is decoded whole; what is larger belongs into tiles."""

Region = Callable[[int, int, int, int], NDArray[np.uint8]]
"""(left, top, width, height) px of a level, all of it inside → (height, width, 3) uint8 RGB."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide; `downsample` is 1.0 for the finest."""

    width: int
    height: int
    downsample: float
    region: Region


@dataclass(frozen=True)
class Slide:
    """An open slide; several threads may read from it.

    Attributes
    ----------
    levels : finest first.
    mpp : µm/px of the finest level; None where the file does not say.
    offset : (x, y) px from the canvas's corner to the corner of what was scanned: QuPath counts from the
        latter, OpenSlide and this class from the former.
    tile_height : px of the finest level; figures read in the order of tile rows decode each tile once.
    """

    path: Path
    levels: tuple[Level, ...]
    mpp: float | None
    offset: tuple[int, int]
    tile_height: int

    def patch(self, x: int, y: int, mpp: float) -> NDArray[np.uint8]:
        """The patch around a figure, from the coarsest level that is fine enough, resampled where need be.

        Parameters
        ----------
        x, y : px of the finest level. mpp : µm/px of the finest level.

        Returns
        -------
        (128, 128, 3) uint8 RGB; black outside the slide, as published patches are, and white where a scanner
        left a gap.

        Raises
        ------
        JobError : the figure lies outside the slide, or its pixels cannot be read.
        """
        full = self.levels[0]
        if not (0 <= x < full.width and 0 <= y < full.height):
            raise JobError(f"({x}, {y}) lies outside {self.path}, which is {full.width} x {full.height} px")
        level = self._level_for(PATCH_UM_PER_PX / mpp)
        side = PATCH_PX * PATCH_UM_PER_PX / mpp / level.downsample  # px of the level
        centre_x, centre_y = x / level.downsample, y / level.downsample
        if abs(side / PATCH_PX - 1) <= SAME_SCALE:
            left, top = round(centre_x) - PATCH_PX // 2, round(centre_y) - PATCH_PX // 2
            return self._padded(level, left, top, PATCH_PX)
        # As a whole patch starts half its side before its centre, so does this one, between two px maybe.
        left_exact, top_exact = centre_x - side / 2, centre_y - side / 2
        margin = math.ceil(3 * max(1.0, side / PATCH_PX))  # what Lanczos's kernel reaches beyond
        left, top = math.floor(left_exact) - margin, math.floor(top_exact) - margin
        region = Image.fromarray(self._padded(level, left, top, math.ceil(side) + 1 + 2 * margin))
        box = (left_exact - left, top_exact - top, left_exact - left + side, top_exact - top + side)
        return np.asarray(region.resize((PATCH_PX, PATCH_PX), Image.Resampling.LANCZOS, box=box))

    def _level_for(self, downsample: float) -> Level:
        """The coarsest level not coarser than wanted, else the finest."""
        fine = [level for level in self.levels if level.downsample <= downsample * (1 + SAME_SCALE)]
        return fine[-1] if fine else self.levels[0]

    def _padded(self, level: Level, left: int, top: int, side: int) -> NDArray[np.uint8]:
        """(side, side, 3) uint8 of a level, black outside it."""
        x0, y0 = max(left, 0), max(top, 0)
        x1, y1 = min(left + side, level.width), min(top + side, level.height)
        try:
            inside = level.region(x0, y0, x1 - x0, y1 - y0)
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            raise JobError(f"{self.path} cannot be read around ({left}, {top}): {error}") from error
        if inside.shape[:2] == (side, side):
            return inside
        padded = np.zeros((side, side, 3), dtype=np.uint8)
        padded[y0 - top : y1 - top, x0 - left : x1 - left] = inside
        return padded


def open_slide(path: Path) -> Slide:
    """Open a slide.

    Raises
    ------
    DataError : there is no such file, or neither OpenSlide nor tifffile reads it as 8-bit RGB.
    """
    if not path.exists():
        raise DataError(f"{path}: no such slide")
    _check_tiff(path)
    try:
        return _open_pyramid(path)
    except openslide.OpenSlideUnsupportedFormatError:
        return _open_plain_tiff(path)
    except openslide.OpenSlideError as error:
        raise DataError(f"{path} cannot be read as a slide: {error}") from error


def _check_tiff(path: Path) -> None:
    """Refuse a TIFF of several planes, or of 16 bits, of which OpenSlide gives 8 and does not tell."""
    try:
        with tifffile.TiffFile(path) as tiff:
            pages = [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]
            depths = {(page.bitspersample, page.sampleformat) for page in pages}
            first = {tag.code: tag.value for tag in pages[0].tags}
            alike = [page for page in pages if page.shape == pages[0].shape and not page.is_reduced]
    except Exception:  # no TIFF, or a damaged one: the readers say so
        return
    if depths != {(8, 1)}:
        found = ", ".join(f"{bits} bits of kind {kind}" for bits, kind in sorted(depths))
        raise DataError(f"{path} holds samples of {found}, expected 8 bits, unsigned (kind 1)")
    planes = max(planes_described(first), len(alike))
    if planes > 1 and openslide.OpenSlide.detect_format(path) in (None, "generic-tiff"):
        raise DataError(
            f"{path} holds {planes} planes of full size, of which one would be read: expected one"
        )


def _open_pyramid(path: Path) -> Slide:
    handle = openslide.OpenSlide(path)
    handle.set_cache(openslide.OpenSlideCache(CACHE_BYTES))

    def region_of(number: int, downsample: float) -> Region:
        def region(left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
            place = round(left * downsample), round(top * downsample)  # OpenSlide counts in px of level 0
            pixels = np.asarray(handle.read_region(place, number, (width, height)))  # (height, width, 4)
            alpha = pixels[..., 3:]
            if alpha.min() == 255:
                return np.ascontiguousarray(pixels[..., :3])
            white = 255 - alpha.astype(np.uint16)  # a gap of the scan is background
            mixed = (pixels[..., :3] * alpha.astype(np.uint16) + 127) // 255 + white
            return mixed.astype(np.uint8)

        return region

    properties: Mapping[str, str] = handle.properties
    levels = tuple(
        Level(width, height, downsample, region_of(number, downsample))
        for number, ((width, height), downsample) in enumerate(
            zip(handle.level_dimensions, handle.level_downsamples, strict=True)
        )
    )
    offset = int(properties.get("openslide.bounds-x", 0)), int(properties.get("openslide.bounds-y", 0))
    tile_height = int(properties.get("openslide.level[0].tile-height", 256))
    return Slide(path, levels, _mpp_of_properties(path, properties), offset, tile_height)


def _mpp_of_properties(path: Path, properties: Mapping[str, str]) -> float | None:
    """What OpenSlide knows, or the TIFF tags that it hands on untranslated."""
    if "openslide.mpp-x" in properties:
        return _square(
            path, float(properties["openslide.mpp-x"]), float(properties.get("openslide.mpp-y", "nan"))
        )
    per_unit = {"centimeter": 1e4, "inch": 25400.0}.get(properties.get("tiff.ResolutionUnit", ""))
    if per_unit is None:
        return None
    x, y = (float(properties.get(f"tiff.{axis}Resolution", "0")) for axis in "XY")
    return _square(path, per_unit / x, per_unit / y) if min(x, y) > 0 else None


def _open_plain_tiff(path: Path) -> Slide:
    """Map the first page of a TIFF, or decode it where it is compressed."""
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            size = math.prod(page.shape)
            if page.dtype != np.uint8 or len(page.shape) != 3 or page.shape[2] not in (3, 4):
                raise DataError(f"{path} holds {page.dtype} {page.shape}, expected 8-bit RGB")
            if not page.is_memmappable and size > MAX_PLAIN_BYTES:
                raise DataError(
                    f"{path} holds {size} bytes without tiles, expected at most {MAX_PLAIN_BYTES}: "
                    "convert it to a tiled TIFF"
                )
            mpp = _mpp_of_tags(path, page)
        pixels: NDArray[np.uint8] = (
            tifffile.memmap(path, page=0, mode="r") if page.is_memmappable else tifffile.imread(path, key=0)
        )  # (H, W, 3 or 4)
    except DataError:
        raise
    except Exception as error:  # tifffile meets damaged files with a dozen exception types
        raise DataError(f"{path} is no slide that OpenSlide reads and no TIFF: {error}") from error

    def region(left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(pixels[top : top + height, left : left + width, :3])

    height, width = pixels.shape[:2]
    return Slide(path, (Level(width, height, 1.0, region),), mpp, (0, 0), 256)


def _mpp_of_tags(path: Path, page: tifffile.TiffPage) -> float | None:
    unit, x, y = (page.tags.valueof(name) for name in ("ResolutionUnit", "XResolution", "YResolution"))
    per_unit = {2: 25400.0, 3: 1e4}.get(int(unit or 0))
    if per_unit is None or not x or not y or 0 in (*x, *y):
        return None
    return _square(path, per_unit * x[1] / x[0], per_unit * y[1] / y[0])


def _square(path: Path, x: float, y: float) -> float | None:
    """One resolution of both axes; None where it is no microscope's."""
    if not (MPP_RANGE[0] <= x <= MPP_RANGE[1]):
        return None
    if abs(y / x - 1) > 0.01:
        raise DataError(f"{path} has pixels of {x:g} x {y:g} µm, expected square ones")
    return x
