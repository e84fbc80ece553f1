"""Read a file of any kind into its pages: a stack, or a patch of its own (PNG, JPEG, …)."""

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from amf.errors import JobError
from amf.inference.stack import SUFFIXES, page_pixels, read_stack
from amf.model.preprocess import PATCH_PX

PLAIN_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * PATCH_PX.to_bytes(4, "big") + b"\x08\x02\0\0\0"
"""How a PNG of a patch's size begins whose pixels are 8-bit RGB, without palette and not interlaced."""

MAX_PLAIN_PNG_BYTES = 1 << 18
"""Five times what such pixels need uncompressed; a larger file is left to Pillow, which reads it in parts."""


def is_stack(path: Path) -> bool:
    """Whether a file counts as a stack, by its suffix, rather than as one patch."""
    return path.suffix.lower() in SUFFIXES


def read_pages(path: Path) -> NDArray[np.uint8]:
    """Read a patch or a stack: (N, 128, 128, 3) uint8 RGB; JobError if it is neither."""
    return read_stack(path) if is_stack(path) else read_patch(path)[None]


def read_patch(path: Path) -> NDArray[np.uint8]:
    """Read one patch in any format that Pillow knows: (128, 128, 3) uint8 RGB; JobError if it is none."""
    try:
        pixels = _read_plain_png(path)
        if pixels is not None:
            return pixels
        with Image.open(path) as image:
            return page_pixels(image, str(path))
    except UnidentifiedImageError as error:
        raise JobError(f"{path} is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise JobError(f"{path} cannot be read: {error}") from error


def _read_plain_png(path: Path) -> NDArray[np.uint8] | None:
    """What nearly all patches are, in two thirds of Pillow's time; None where Pillow is to judge.

    libspng rather than libpng: the latter remarks on stderr on every file with an odd colour profile.
    """
    with path.open("rb") as file:
        data = file.read(MAX_PLAIN_PNG_BYTES)
    if not data.startswith(PLAIN_PNG):
        return None
    try:
        pixels: NDArray[np.uint8] = imagecodecs.spng_decode(data)  # (128, 128, 3)
    except imagecodecs.SpngError:
        return None
    return pixels
