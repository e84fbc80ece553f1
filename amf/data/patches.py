"""Patches as files: a 128 px image of its own, or a window of a whole region of interest (ROI)."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

PATCH_PX = 128  # side of a published patch, about 0.25 um/px

_WINDOW = re.compile(r"(?P<file>.+)#x=(?P<x>\d+),y=(?P<y>\d+)")


def window_name(file: str, x: int, y: int) -> str:
    """The image id of the patch centred on (x, y), px, of the ROI `file`."""
    return f"{file}#x={x},y={y}"


def file_of(image: str) -> str:
    """The file that holds the patch, relative to the data root."""
    window = _WINDOW.fullmatch(image)
    return window["file"] if window else image


def read_patches(path: Path, images: list[str]) -> list[np.ndarray | str]:
    """Decode one file once and return the patches that `images` name in it.

    A window reaches from x - 64 to x + 63 and is black outside the ROI. The published patches are made
    so: in all 41 AMi-Br patches with x or y below 64 px, exactly the first 64 - x columns or 64 - y rows are
    black.

    Returns
    -------
    For each image a uint8 array (128, 128, 3), RGB, or the sentence that says why there is none.
    """
    if not path.is_file():
        return ["no such file"] * len(images)
    try:
        with Image.open(path) as image:
            if image.mode not in ("RGB", "RGBA", "P"):
                return [f"its pixels are of mode {image.mode}, expected 8-bit RGB"] * len(images)
            whole = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return [f"not a readable image ({error})"] * len(images)
    return [_patch(whole, image) for image in images]


def _patch(whole: Image.Image, image: str) -> np.ndarray | str:
    window = _WINDOW.fullmatch(image)
    if window is None:
        if whole.size != (PATCH_PX, PATCH_PX):
            return f"{whole.width} x {whole.height} px, expected {PATCH_PX} x {PATCH_PX} px"
        return np.asarray(whole)  # (128, 128, 3)
    x, y = int(window["x"]), int(window["y"])
    if x >= whole.width or y >= whole.height:
        return f"({x}, {y}) lies outside its {whole.width} x {whole.height} px"
    half = PATCH_PX // 2
    return np.asarray(
        whole.crop((x - half, y - half, x + half, y + half))
    )  # (128, 128, 3); Pillow pads black
