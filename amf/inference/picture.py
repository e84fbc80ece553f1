"""One picture as 8-bit RGB, or why it is none: the gate that every patch passes, whatever reads it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from amf.errors import AmfError, JobError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""Whose depth is known. Of others, as JPEG 2000, Pillow gives 8 bits of 16 and does not tell."""

COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB")
"""Pillow modes that hold 8-bit colour; each converts to RGB without a loss that matters here."""

SUBFILE_TYPE, REDUCED = 254, 1
BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED_INTEGER = 258, 339, 1
DESCRIPTION, SAMPLES_PER_PIXEL = 270, 277
IMAGE_DEPTH, TILE_DEPTH = 32997, 32998  # of a volume in one directory
METAMORPH_PLANES = 33629  # holds one entry a plane
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
        if not path.is_file():  # opening a pipe would wait for its writer
            raise JobError(f"{path} is no regular file" if path.exists() else f"{path}: no such file")
        with Image.open(path, formats=FORMATS) as image:
            _check_single(image, str(path))
            return rgb_pixels(image, str(path))
    except AmfError:
        raise
    except UnidentifiedImageError as error:
        raise JobError(f"{path} is not an image that can be read, expected {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow meets damaged files with a dozen exception types
        raise JobError(f"{path} cannot be read: {error or type(error).__name__}") from error


def rgb_pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Check the header of an open picture, then decode it: (H, W, 3) uint8 RGB.

    Raises
    ------
    JobError : its samples have not 8 bits each, or are no colour.
    """
    tags = tags_of(image)
    depths = {*tags.get(BITS_PER_SAMPLE, ()), *_stored_depths(image)} or {8}
    wrong_depth = max(depths) > 8 if image.mode in ("P", "PA") else depths != {8}
    kinds = set(tags.get(SAMPLE_FORMAT, (UNSIGNED_INTEGER,)))
    if image.mode not in COLOUR_MODES or wrong_depth or kinds != {UNSIGNED_INTEGER}:
        found = f"mode {image.mode} with {max(depths)} bits a sample"
        raise JobError(f"{where} holds {found}, expected 8-bit colour (RGB)")
    return np.asarray(image.convert("RGB"))


def tags_of(image: Image.Image) -> Any:
    """The TIFF tags of the current page; none of another format."""
    return getattr(image, "tag_v2", {})


def _stored_depths(image: Image.Image) -> set[int]:
    """Bits a sample in the file, where the decoder must be told: the mode is RGB for 16-bit RGB too.

    Pillow says "RGB;16B", "P;4" or, with the bits of a pixel together, "BGR;15".
    """
    depths = set()
    for tile in getattr(image, "tile", ()):
        stored = tile.args if isinstance(tile.args, str) else next(iter(tile.args or ()), "")
        depths |= {int(bits) for bits in re.findall(r";(\d+)", str(stored))}
    return depths


def planes_described(tags: Any) -> int:
    """How many planes a TIFF directory says to hold or to begin, itself or in its description; at least 1.

    Volumes (ImageDepth), stacks of ImageJ, tifffile ("shape"), OME and MetaMorph: their writers may put all
    planes behind one directory, of which a reader of pages sees the first only.
    """
    depths = [tags.get(IMAGE_DEPTH, 1), tags.get(TILE_DEPTH, 1)]
    metamorph = tags.get(METAMORPH_PLANES, ())
    planes = [*depths, len(metamorph) if isinstance(metamorph, tuple) else 1]
    text = tags.get(DESCRIPTION, "")
    text = text.decode("latin-1") if isinstance(text, bytes) else str(text)
    if text.startswith("ImageJ="):
        fields = {key: int(value) for key, value in re.findall(r"^(\w+)=(\d{1,9})\b", text, re.MULTILINE)}
        planes += [
            fields.get("images", 1),
            math.prod(fields.get(k, 1) for k in ("channels", "slices", "frames")),
        ]
    elif "<OME" in text:
        pixels = re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", text)
        sizes = [[int(n) for n in re.findall(r'\bSize[ZT]\s*=\s*"(\d{1,9})"', start)] for start in pixels]
        planes.append(sum(map(math.prod, sizes)))
    elif text.lstrip().startswith("{"):
        planes.append(_planes_of_shape(text, tags))
    return max(int(number) for number in planes if isinstance(number, int))


def _planes_of_shape(text: str, tags: Any) -> int:
    """From what tifffile writes, {"shape": [5, 128, 128, 3]}."""
    try:
        shape = json.loads(text)["shape"]
        return math.prod(shape) // (tags.get(256) * tags.get(257) * tags.get(SAMPLES_PER_PIXEL, 1))
    except (ValueError, KeyError, TypeError, RecursionError, ZeroDivisionError):
        return 1


def _check_single(image: Image.Image, where: str) -> None:
    """Refuse a file with further pictures, but for smaller versions of the same in a TIFF."""
    count = getattr(image, "n_frames", 1)
    described = planes_described(tags_of(image))
    size = image.size
    if image.format == "TIFF":
        further = 0
        for page in range(1, count):
            image.seek(page)
            reduced = tags_of(image).get(SUBFILE_TYPE, 0) & REDUCED
            further += not reduced and image.width >= size[0] and image.height >= size[1]
        if count > 1:
            image.seek(0)
        count = max(1 + further, described)
    if count > 1:
        raise JobError(f"{where} holds {count} pictures, of which one would be read: expected a single one")
