"""Decode one picture to 8-bit RGB, or raise JobError; whatever reads a patch uses it."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from amf.errors import AmfError, JobError
from amf.files import check_regular
from amf.inference.tiff import (
    BITS_PER_SAMPLE,
    planes_described,
    tags_of,
    uncompressed_bytes,
    walk_directories,
)
from amf.model.preprocess import PATCH_PX

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""Whose depth is known. Of others, as JPEG 2000, Pillow gives 8 bits of 16 and does not tell."""

COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB")
"""Pillow modes that hold 8-bit colour; each converts to RGB without a loss that matters here."""

SUBFILE_TYPE, REDUCED = 254, 1
SAMPLE_FORMAT, UNSIGNED_INTEGER = 339, 1
"""TIFF tags, and the values of them that are meant."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Read a file that holds one picture.

    Returns
    -------
    (H, W, 3) uint8 RGB. Colour that is not RGB (palette, CMYK, alpha) is converted.

    Raises
    ------
    JobError : no such file, no picture in one of FORMATS, another depth than 8 bits a sample, grey, damaged,
        or more than one picture of that size.
    """
    try:
        check_regular(path)
        with Image.open(path, formats=FORMATS) as image:
            _check_single(image, path)
            return rgb_pixels(image, str(path))
    except AmfError:
        raise
    except FileNotFoundError as error:
        raise JobError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise JobError(f"{path} is not an image that can be read, expected {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow meets damaged files with a dozen exception types
        raise JobError(f"{path} cannot be read: {error or type(error).__name__}") from error


def rgb_pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Check the header of an open picture, then decode it: (H, W, 3) uint8 RGB.

    Raises
    ------
    JobError : its samples do not have 8 bits each, or are grey.
    """
    tags = tags_of(image)
    depths = {*tags.get(BITS_PER_SAMPLE, ()), *_stored_depths(image)} or {8}
    wrong_depth = max(depths) > 8 if image.mode in ("P", "PA") else depths != {8}
    kinds = set(tags.get(SAMPLE_FORMAT, (UNSIGNED_INTEGER,)))
    if image.mode not in COLOUR_MODES or wrong_depth or kinds != {UNSIGNED_INTEGER}:
        found = f"mode {image.mode} with {max(depths)} bits a sample"
        raise JobError(f"{where} holds {found}, expected 8-bit colour (RGB)")
    return np.asarray(image.convert("RGB"))


def check_patch_size(width: int, height: int, where: str) -> None:
    """Raise JobError unless that is the size of a patch."""
    if (width, height) != (PATCH_PX, PATCH_PX):
        raise JobError(f"{where} is {width} x {height} px, expected {PATCH_PX} x {PATCH_PX}")


def _stored_depths(image: Image.Image) -> set[int]:
    """Bits a sample in the file, where the decoder must be told: the mode is RGB for 16-bit RGB too.

    Pillow says "RGB;16B", "P;4" or, with the bits of a pixel together, "BGR;15".
    """
    depths = set()
    for tile in getattr(image, "tile", ()):
        stored = tile.args if isinstance(tile.args, str) else next(iter(tile.args or ()), "")
        depths |= {int(bits) for bits in re.findall(r";(\d+)", str(stored))}
    return depths


def _check_single(image: Image.Image, path: Path) -> None:
    """Refuse a file with further pictures, but for smaller versions of the same in a TIFF."""
    count = getattr(image, "n_frames", 1)
    if image.format == "TIFF":
        count = _planes_of_tiff(image, path, count)
    if count > 1:
        raise JobError(f"{path} holds {count} pictures, of which one would be read: expected a single one")


def _planes_of_tiff(image: Image.Image, path: Path, count: int) -> int:
    """How many planes of the first one's size there are, by pages, description and bytes of no page."""
    described, size, full = planes_described(tags_of(image)), image.size, uncompressed_bytes(image)
    with path.open("rb") as file:
        spare = walk_directories(file, path)[1] - full
    alike = 1
    for page in range(1, count):
        image.seek(page)
        spare -= uncompressed_bytes(image)
        reduced = tags_of(image).get(SUBFILE_TYPE, 0) & REDUCED
        alike += not reduced and image.width >= size[0] and image.height >= size[1]
    if count > 1:
        image.seek(0)
    return max(alike, described, 1 + int(spare // full) if spare >= full else 1)
