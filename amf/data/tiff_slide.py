"""Slides in TIFF that are of no scanner: OME, ImageJ, pyramids of tiles, one page in strips or planes."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from amf.data.slide import CACHE_BYTES, Level, ReadPixels, Slide, on_white
from amf.errors import DataError
from amf.inference.tiff import planes_described

MAX_SEGMENT_BYTES = 4 << 30
"""A tile or strip is decoded whole; what is larger belongs into tiles."""

ASSOCIATED = re.compile(r"label|macro|overview|thumbnail|barcode|preview", re.IGNORECASE)
"""Names that writers of OME-TIFF give to what is no scan."""

ASSOCIATED_SHARE = 16
"""So much smaller than the scan in area is what has no such name."""

UM_PER_UNIT = {
    "nm": 1e-3, "µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "mm": 1e3, "cm": 1e4,
    "m": 1e6, "inch": 25_400.0, "in": 25_400.0,
}  # fmt: skip
"""Units of length in OME-XML and in ImageJ's description."""

UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 1e4, 4: 1e3, 5: 1.0}
"""TIFF's ResolutionUnit: inch, centimetre; millimetre and micrometre as some writers have them."""

JPEG = (6, 7, 33007)
"""TIFF compressions of which tifffile turns YCbCr into RGB."""

ALPHA = (1, 2)
"""TIFF's ExtraSamples that are one, multiplied with the colours or not."""


def check_depth(path: Path) -> None:
    """Refuse a TIFF of another depth than 8 bits: OpenSlide gives 8 of 16 and does not tell.

    Raises
    ------
    DataError : names the depths found. What is no TIFF, or a damaged one, is left to its reader.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            depths = {(page.bitspersample, page.sampleformat) for page in _pages(tiff)}
    except Exception:  # tifffile meets damaged files with a dozen exception types
        return
    if depths != {(8, 1)}:
        found = ", ".join(f"{bits} bits of kind {kind}" for bits, kind in sorted(depths))
        raise DataError(f"{path} holds samples of {found}, expected 8 bits, unsigned (kind 1)")


def open_tiff(path: Path) -> Slide:
    """Open the largest image of a TIFF with its smaller levels; the file stays open as long as the slide.

    Raises
    ------
    DataError : no TIFF, not 8-bit RGB, several planes or scans, or tiles too large to be decoded.
    """
    check_depth(path)
    try:
        tiff = tifffile.TiffFile(path)
        series = [one for one in tiff.series if one.kind == "ome"] if tiff.is_ome else []
        pages, note = _ome_levels(path, series) if series else _plain_levels(path, tiff)
        main, lock = pages[0], Lock()
        of_ome = _ome_um_per_px(tiff.ome_metadata or "", main) if tiff.is_ome else None
        levels = tuple(_level(path, page, main, lock) for page in pages)
        tile_height, _ = _segment_size(main)
        return Slide(path, levels, of_ome or _um_per_px(tiff, main), (0, 0), tile_height, note)
    except DataError:
        raise
    except Exception as error:  # as above
        raise DataError(f"{path} is no slide that OpenSlide reads and no TIFF: {error}") from error


def _pages(tiff: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    return [page for page in tiff.pages if isinstance(page, tifffile.TiffPage)]


# ---- which of the images, and its levels


def _plain_levels(path: Path, tiff: tifffile.TiffFile) -> tuple[list[tifffile.TiffPage], str]:
    """The largest page that is no reduced copy, and its reduced copies."""
    pages = _pages(tiff)
    full = [page for page in pages if not page.is_reduced] or pages
    main = max(full, key=_area)
    tags = {tag.code: tag.value for tag in pages[0].tags}
    planes = max(planes_described(tags), sum(page.shape == main.shape for page in full))
    if planes > 1:
        raise DataError(
            f"{path} holds {planes} planes of full size, of which one would be read: expected one"
        )
    reduced = [page for page in (*pages, *(main.pages or ())) if page.is_reduced and page is not main]
    others = [page for page in full if page is not main]
    return _with_levels(main, reduced), _left_out([("page", page) for page in others])


def _ome_levels(path: Path, series: Sequence[tifffile.TiffPageSeries]) -> tuple[list[tifffile.TiffPage], str]:
    """The largest image of OME-XML with its levels; others must be label, macro image or the like."""
    main = max(series, key=lambda one: _area(one.keyframe))
    page = main.keyframe
    if main.is_multifile or math.prod(main.shape) != math.prod(page.shape):
        sizes = ", ".join(f"{axis} {size}" for axis, size in zip(main.axes, main.shape, strict=True))
        raise DataError(f"{path} holds an OME image of several planes ({sizes}), expected one plane of RGB")
    others = [(one.name or "unnamed", one.keyframe) for one in series if one is not main]
    for name, other in others:
        is_copy = _is_level(other, page)
        if not (ASSOCIATED.search(name) or is_copy or _area(other) * ASSOCIATED_SHARE <= _area(page)):
            raise DataError(
                f"{path} holds several scans, among them {name!r} ({_size(other)}) beside "
                f"{main.name or 'unnamed'!r} ({_size(page)}): expected one, so save each as a file of its own"
            )
    return _with_levels(page, [level.keyframe for level in main.levels[1:]]), _left_out(others)


def _with_levels(main: tifffile.TiffPage, reduced: Sequence[tifffile.TiffPage]) -> list[tifffile.TiffPage]:
    """A page and the smaller ones that show the same, finest first."""
    smaller = [page for page in reduced if _is_level(page, main) and _is_rgb(page)]
    return [main, *sorted(smaller, key=_area, reverse=True)]


def _is_level(page: tifffile.TiffPage, main: tifffile.TiffPage) -> bool:
    """Whether a page is a smaller copy of the other by its sides, to within one px."""
    return (
        page.imagewidth < main.imagewidth
        and abs(main.imagelength * page.imagewidth / main.imagewidth - page.imagelength) <= 1
    )


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth * page.imagelength)


def _size(page: tifffile.TiffPage) -> str:
    return f"{page.imagewidth} x {page.imagelength} px"


def _left_out(others: Sequence[tuple[str, tifffile.TiffPage]]) -> str:
    return ", ".join(f"{name} ({_size(page)})" for name, page in others)


# ---- pixels


def _is_rgb(page: tifffile.TiffPage) -> bool:
    colours = page.photometric == 2 or (page.photometric == 6 and page.compression in JPEG)
    return page.dtype == np.uint8 and page.samplesperpixel in (3, 4) and page.imagedepth == 1 and colours


def _chunky(page: tifffile.TiffPage) -> bool:
    """Whether the colours of a pixel lie together, not in planes."""
    return page.planarconfig == 1


def _segment_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """Height and width, px, of a tile or strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _level(path: Path, page: tifffile.TiffPage, main: tifffile.TiffPage, lock: Lock) -> Level:
    if not _is_rgb(page):
        kind = getattr(page.photometric, "name", page.photometric)
        raise DataError(f"{path} holds {page.dtype} {page.shape} ({kind}), expected 8-bit RGB")
    width, height = page.imagewidth, page.imagelength
    downsample = (main.imagewidth / width + main.imagelength / height) / 2
    region = _mapped(path, page) if page.is_memmappable else _decoded(path, page, lock)
    return Level(width, height, downsample, region)


def _mapped(path: Path, page: tifffile.TiffPage) -> ReadPixels:
    """Pixels that lie in the file as they are."""
    mapped = np.memmap(path, np.uint8, "r", page.dataoffsets[0], page.shape)
    pixels = mapped if _chunky(page) else np.moveaxis(mapped, 0, 2)  # (H, W, 3 or 4)

    def region(left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        return _rgb(np.ascontiguousarray(pixels[top : top + height, left : left + width]), page)

    return region


def _decoded(path: Path, page: tifffile.TiffPage, lock: Lock) -> ReadPixels:
    """Pixels in tiles or strips, of which those are kept that were decoded last."""
    samples = page.samplesperpixel
    planes, of_plane = (1, samples) if _chunky(page) else (samples, 1)
    tall, wide = _segment_size(page)
    rows, columns = -(-page.imagelength // tall), -(-page.imagewidth // wide)
    size = tall * wide * of_plane
    if size > MAX_SEGMENT_BYTES:
        raise DataError(
            f"{path} holds strips of {size} bytes, expected at most {MAX_SEGMENT_BYTES}: "
            "convert it to a tiled TIFF"
        )
    file = page.parent.filehandle

    @lru_cache(max(1, CACHE_BYTES // (size * planes)) * planes)
    def segment(number: int) -> NDArray[np.uint8] | None:
        with lock:
            file.seek(page.dataoffsets[number])
            data = file.read(page.databytecounts[number])
        pixels, _, shape = page.decode(data or None, number, jpegtables=page.jpegtables)
        return None if pixels is None else pixels.reshape(-1, *pixels.shape[-2:])[: shape[1], : shape[2]]

    def region(left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        found = np.full((height, width, samples), 255, np.uint8)  # a gap of the scan is white
        for row in range(top // tall, -(-(top + height) // tall)):
            for column in range(left // wide, -(-(left + width) // wide)):
                y, x = row * tall - top, column * wide - left
                for plane in range(planes):
                    pixels = segment((plane * rows + row) * columns + column)
                    if pixels is None:
                        continue
                    part = pixels[max(-y, 0) : height - y, max(-x, 0) : width - x]
                    into = np.s_[max(y, 0) : max(y, 0) + part.shape[0], max(x, 0) : max(x, 0) + part.shape[1]]
                    found[into][..., plane : plane + of_plane] = part
        return _rgb(found, page)

    return region


def _rgb(pixels: NDArray[np.uint8], page: tifffile.TiffPage) -> NDArray[np.uint8]:
    """(H, W, 3 or 4) → (H, W, 3): what is transparent is white."""
    has_alpha = pixels.shape[2] == 4 and page.extrasamples[:1] and page.extrasamples[0] in ALPHA
    return on_white(pixels) if has_alpha else np.ascontiguousarray(pixels[..., :3])


# ---- resolution


def _um_per_px(tiff: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """What the resolution tags say, in their own unit or in the one of ImageJ's description."""
    unit, x, y = (page.tags.valueof(name) for name in ("ResolutionUnit", "XResolution", "YResolution"))
    imagej: Mapping[str, object] = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    um = _um_of(str(imagej.get("unit", ""))) or UM_PER_RESOLUTION_UNIT.get(int(unit or 0))
    if um is None or not x or not y or 0 in (*x, *y):
        return None
    return um * x[1] / x[0], um * y[1] / y[0]


def _um_of(unit: str) -> float | None:
    """µm of a unit's name; ImageJ escapes the µ, and there are two characters for it."""
    name = unit.strip().lower().replace("\\u00b5", "µ").replace("\u03bc", "µ")
    return UM_PER_UNIT.get(name)


def _ome_um_per_px(text: str, page: tifffile.TiffPage) -> tuple[float, float] | None:
    """PhysicalSizeX and Y of the image in OME-XML that has the page's size; the unit by default is µm."""
    wanted = {"SizeX": str(page.imagewidth), "SizeY": str(page.imagelength)}
    for pixels in ElementTree.fromstring(text).iterfind(".//{*}Pixels"):
        if not wanted.items() <= pixels.attrib.items():
            continue
        um = [_um_of(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
        sizes = [float(pixels.get(f"PhysicalSize{axis}", 0)) for axis in "XY"]
        if um[0] and um[1] and min(sizes) > 0:
            return sizes[0] * um[0], sizes[1] * um[1]
    return None
