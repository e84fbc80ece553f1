"""Patches by their image id: a 128 px file, a page of a stack, or a window of a region or a slide."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from amf.data.patch_file import read_image, read_patch
from amf.data.slide import PATCH_UM_PER_PX, Level, Slide
from amf.errors import AmfError, DataError, JobError
from amf.inference.stack import read_stack
from amf.model.preprocess import PATCH_PX

_WINDOW = r"x=(?P<x>\d+),y=(?P<y>\d+)(,mpp=(?P<mpp>\d+(\.\d+)?))?"
_NAME = re.compile(rf"(?P<file>.*?)(#page=(?P<page>\d+)|#{_WINDOW})?", re.DOTALL)

Name = re.Match[str]
Read = Callable[[Name, int], np.ndarray]
"""(what an image id says, side of a window in px) → uint8 (side, side, 3) or (128, 128, 3) RGB."""

T = TypeVar("T")


def window_name(file: str, x: int, y: int, mpp: float | None = None) -> str:
    """The image id of the patch centred on (x, y), px, of the region or slide `file`.

    With `mpp`, µm/px, the window is 32 µm wide, as of a slide; without, it is 128 px wide.
    """
    return f"{file}#x={x},y={y}" + ("" if mpp is None else f",mpp={mpp:.6f}".rstrip("0").rstrip("."))


def page_name(file: str, page: int) -> str:
    """The image id of a page, from 0, of a stack."""
    return f"{file}#page={page}"


def file_of(image: str) -> str:
    """The file that holds the patch, relative to the data root."""
    return _parsed(image)["file"]


def read_patch_named(image: str, root: Path) -> np.ndarray:
    """The patch of one image id, uint8 (128, 128, 3), RGB; DataError where there is none."""
    path = root / file_of(image)
    (patch,) = read_patches(path, [image])
    if isinstance(patch, str):
        raise DataError(f"{path}: {patch}")
    return patch


def read_patches(path: Path, images: list[str], side_px: int = PATCH_PX) -> list[np.ndarray | str]:
    """Open one file once and return the patches that `images` name in it.

    With `side_px` a window is wider than a patch; files and pages of stacks never are. By default a window
    reaches from x - 64 to x + 63 and is black outside the file. The published patches are made
    so: in all 41 AMi-Br patches with x or y below 64 px, exactly the first 64 - x columns or 64 - y rows are
    black.

    Returns
    -------
    For each image a uint8 array, (side_px, side_px, 3) or (128, 128, 3), RGB, or the sentence that says why
    there is none.
    """
    if not (path.is_file() or path.is_dir()):  # a folder may be a DICOM slide
        return ["no such file"] * len(images)
    named = [_parsed(image) for image in images]
    opened = {kind: _tried(path, partial(kind, path)) for kind in {_kind(name) for name in named}}
    readers = [opened[_kind(name)] for name in named]
    return [
        read if isinstance(read, str) else _tried(path, partial(read, name, side_px))
        for read, name in zip(readers, named, strict=True)
    ]


def _parsed(image: str) -> Name:
    name = _NAME.fullmatch(image)
    assert name is not None, f"{image!r} is no image id"
    return name


def _tried(path: Path, read: Callable[[], T]) -> T | str:
    """What is read, or the sentence that says why there is none."""
    try:
        return read()
    except AmfError as error:
        return str(error).removeprefix(str(path)).lstrip(": ")
    except Exception as error:  # whatever a reader meets in a file is that file's fault
        return f"cannot be read: {type(error).__name__}: {error}"


def _kind(name: Name) -> Callable[[Path], Read]:
    if name["page"] is not None:
        return _of_stack
    if name["x"] is None:
        return _of_patch
    return _of_region if name["mpp"] is None else _of_slide


def _of_patch(path: Path) -> Read:
    patch = read_patch(path)  # (128, 128, 3)
    return lambda name, side_px: patch


def _of_stack(path: Path) -> Read:
    pages = read_stack(path)  # (N, 128, 128, 3)

    def page(name: Name, side_px: int) -> np.ndarray:
        number = int(name["page"])
        if number >= len(pages):
            raise JobError(f"page {number} of {len(pages)}, counted from 0")
        return pages[number]

    return page


def _of_region(path: Path) -> Read:
    pixels = read_image(path)  # (H, W, 3)

    def cut(left: int, top: int, width: int, height: int) -> np.ndarray:
        return pixels[top : top + height, left : left + width]

    height, width = pixels.shape[:2]
    region = Slide(path, (Level(width, height, 1.0, cut),), None, (0, 0), height)
    return lambda name, side_px: region.patch(int(name["x"]), int(name["y"]), PATCH_UM_PER_PX, side_px)


def _of_slide(path: Path) -> Read:
    from amf.data.open_slide import open_slide  # needs OpenSlide, which patches in files do not

    slide = open_slide(path)
    return lambda name, side_px: slide.patch(int(name["x"]), int(name["y"]), float(name["mpp"]), side_px)
