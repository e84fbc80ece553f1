"""Read a stack of patches (multi-page TIFF or MHA) into uint8 (N, 128, 128, 3), or raise JobError."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    Image,
    TiffImagePlugin,  # noqa: F401  registers TIFF: else Image.open imports all of its formats, for 0.1 s
    UnidentifiedImageError,
)

from amf.errors import JobError, account
from amf.files import check_regular
from amf.inference.mha import read_mha
from amf.inference.picture import check_patch_size, rgb_pixels
from amf.inference.tiff import (
    BITS_PER_SAMPLE,
    MAX_PAGES,
    TILE_OFFSETS,
    planes_described,
    tags_of,
    uncompressed_bytes,
    walk_directories,
)
from amf.model.preprocess import PATCH_PX

SUFFIXES = (".tif", ".tiff", ".mha")

MAX_FILE_BYTES = 2 * MAX_PAGES * PATCH_PX * PATCH_PX * 4
"""Twice what that many pages need uncompressed and with alpha: the most that is ever read into memory."""

PLANAR_CONFIGURATION, SEPARATE_PLANES = 284, 2
STRIP_OFFSETS, ROWS_PER_STRIP, TILE_WIDTH, TILE_LENGTH = 273, 278, 322, 323
"""TIFF tags, and the values of them that are meant."""


def read_stack(path: Path) -> NDArray[np.uint8]:
    """Read every page of a stack, in page order.

    Returns
    -------
    (N, 128, 128, 3) uint8 RGB with N >= 1. Colour that is not RGB (palette, CMYK, alpha) is converted.

    Raises
    ------
    JobError : the file is not a TIFF or MHA stack of 8-bit colour pages of 128 x 128 px.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            found = f"holds {size} bytes" if size else "is empty"
            raise JobError(f"{path} {found}, expected a TIFF or MHA stack of at most {MAX_FILE_BYTES} bytes")
        return read_mha(path, MAX_PAGES) if path.suffix.lower() == ".mha" else _read_tiff(path)
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_tiff(path: Path) -> NDArray[np.uint8]:
    """Decode a TIFF page by page; every page is checked by its header before its pixels are read."""
    pages: list[NDArray[np.uint8]] = []
    with path.open("rb") as file:
        try:
            count, spare_bytes = walk_directories(file, path)
            with Image.open(file, formats=("TIFF",)) as image:
                for index in range(count):
                    image.seek(index)
                    where = f"{path} page {index + 1}"
                    spare_bytes -= uncompressed_bytes(image)
                    _check_planes(tags_of(image), count, where)
                    pages.append(page_pixels(image, where))
        except UnidentifiedImageError as error:
            raise JobError(f"{path} is not a TIFF that can be read, expected a TIFF or MHA stack") from error
        except JobError:
            raise
        except Exception as error:  # Pillow meets damaged files with a dozen exception types
            raise JobError(
                f"{path} page {len(pages) + 1} is damaged: {error or type(error).__name__}"
            ) from error
    if spare_bytes >= PATCH_PX * PATCH_PX * 3:
        raise JobError(
            f"{path} holds more than is read: {spare_bytes:.0f} bytes beside its {count} pages, as of "
            "further pages without a directory: expected one directory a page"
        )
    account(f"pages of {path}", count, len(pages), 0)
    return np.stack(pages)  # (N, 128, 128, 3)


def _check_planes(tags: Any, count: int, where: str) -> None:
    """Refuse a file that says it holds more planes than it has directories."""
    planes = planes_described(tags)
    if planes > count:
        raise JobError(
            f"{where} says that there are {planes} planes, but the file has {count} directories of pages: it "
            "holds more than is read, expected one directory a page"
        )


def page_pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Check the header of the current page, then decode it: (128, 128, 3) uint8."""
    check_patch_size(*image.size, where)
    tags = tags_of(image)
    if tags:
        _check_page_is_whole(tags, where)
    return rgb_pixels(image, where)


def _check_page_is_whole(tags: Any, where: str) -> None:
    """Refuse a page that lacks strips or tiles: Pillow leaves those pixels as they are."""
    strip = PATCH_PX, tags.get(ROWS_PER_STRIP, PATCH_PX)
    part = tags.get(TILE_WIDTH, strip[0]), tags.get(TILE_LENGTH, strip[1])
    planes = len(tags[BITS_PER_SAMPLE]) if tags.get(PLANAR_CONFIGURATION) == SEPARATE_PLANES else 1
    expected = math.ceil(PATCH_PX / part[0]) * math.ceil(PATCH_PX / part[1]) * planes
    found = len(tags.get(TILE_OFFSETS) or tags.get(STRIP_OFFSETS, ()))
    if found < expected:
        raise JobError(f"{where} holds {found} strips or tiles, expected {expected}")
