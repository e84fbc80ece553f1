"""Read a file of any kind into its pages: a stack, or a patch of its own (PNG, JPEG, …)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amf.data.patch_file import read_patch
from amf.inference.stack import SUFFIXES, read_stack


def is_stack(path: Path) -> bool:
    """Whether a file counts as a stack, by its suffix, rather than as one patch."""
    return path.suffix.lower() in SUFFIXES


def read_pages(path: Path) -> NDArray[np.uint8]:
    """Read a patch or a stack: (N, 128, 128, 3) uint8 RGB; JobError if it is neither."""
    return read_stack(path) if is_stack(path) else read_patch(path)[None]
