"""A file of one picture, read fast where it is what nearly all patches are: a plain PNG of 128 px."""

from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from amf.inference.picture import check_patch_size, read_picture
from amf.model.preprocess import PATCH_PX

PLAIN_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + 2 * PATCH_PX.to_bytes(4, "big") + b"\x08\x02\0\0\0"
"""How a PNG of a patch's size begins whose pixels are 8-bit RGB, without palette and not interlaced."""

MAX_PLAIN_PNG_BYTES = 1 << 18
"""Five times what such pixels need uncompressed; a larger file is left to Pillow, which reads it in parts."""

ANIMATION = b"acTL"
"""The chunk of a PNG that announces further pictures."""


def read_patch(path: Path) -> NDArray[np.uint8]:
    """Read a file that holds one patch: (128, 128, 3) uint8 RGB; raises JobError for anything else."""
    pixels = read_image(path)
    check_patch_size(pixels.shape[1], pixels.shape[0], str(path))
    return pixels


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a file that holds one picture: (H, W, 3) uint8 RGB; raises as `read_picture`."""
    pixels = _read_plain_png(path)
    return read_picture(path) if pixels is None else pixels


def _read_plain_png(path: Path) -> NDArray[np.uint8] | None:
    """Decode with libspng in two thirds of Pillow's time; None for files that only Pillow handles.

    libspng rather than libpng: the latter remarks on stderr on every file with an odd colour profile.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(MAX_PLAIN_PNG_BYTES)
    except OSError:
        return None
    if not data.startswith(PLAIN_PNG) or ANIMATION in data:
        return None
    try:
        pixels: NDArray[np.uint8] = imagecodecs.spng_decode(data)  # (128, 128, 3)
    except imagecodecs.SpngError:
        return None
    return pixels
