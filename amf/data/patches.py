"""Patches by their image id: a 128 px file, a page of a stack, or a window of a region or a slide."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from amf.data.patch_file import read_image
from amf.errors import AmfError, DataError, JobError, account
from amf.inference.stack import read_stack
from amf.model.preprocess import PATCH_PX

_WINDOW = re.compile(r"(?P<file>.+)#x=(?P<x>\d+),y=(?P<y>\d+)(,mpp=(?P<mpp>\d+(\.\d+)?))?")
_PAGE = re.compile(r"(?P<file>.+)#page=(?P<page>\d+)")


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
    named = _WINDOW.fullmatch(image) or _PAGE.fullmatch(image)
    return named["file"] if named else image


def read_patch_named(image: str, root: Path) -> np.ndarray:
    """The patch of one image id, uint8 (128, 128, 3), RGB.

    Raises
    ------
    DataError: there is none.
    """
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
    of_kind = [_kind(image) for image in images]
    patches: dict[int, np.ndarray | str] = {}
    for open_file in dict.fromkeys(of_kind):
        rows = [row for row, kind in enumerate(of_kind) if kind is open_file]
        try:
            cut = open_file(path, side_px)
        except AmfError as error:
            patches |= dict.fromkeys(rows, str(error).removeprefix(str(path)).lstrip(": "))
        except Exception as error:  # whatever a reader meets in a file is that file's fault
            patches |= dict.fromkeys(rows, f"cannot be read: {type(error).__name__}: {error}")
        else:
            patches |= {row: cut(images[row]) for row in rows}
    account(f"patches of {path}", len(images), len(patches), 0)
    return [patches[row] for row in range(len(images))]


Cut = Callable[[str], np.ndarray | str]


def _kind(image: str) -> Callable[[Path, int], Cut]:
    window = _WINDOW.fullmatch(image)
    if window is not None and window["mpp"] is not None:
        return _of_slide
    return _of_stack if _PAGE.fullmatch(image) else _of_image


def _of_slide(path: Path, side_px: int) -> Cut:
    from amf.data.open_slide import open_slide  # needs OpenSlide, which patches in files do not

    slide = open_slide(path)

    def cut(image: str) -> np.ndarray | str:
        window = _WINDOW.fullmatch(image)
        assert window is not None
        try:
            return slide.patch(int(window["x"]), int(window["y"]), float(window["mpp"]), side_px)
        except JobError as error:
            return str(error)

    return cut


def _of_stack(path: Path, _side_px: int) -> Cut:
    pages = read_stack(path)  # (N, 128, 128, 3)

    def cut(image: str) -> np.ndarray | str:
        number = int(image.rpartition("=")[2])
        return pages[number] if number < len(pages) else f"page {number} of {len(pages)}, counted from 0"

    return cut


def _of_image(path: Path, side_px: int) -> Cut:
    whole = read_image(path)  # (H, W, 3)
    height, width = whole.shape[:2]

    def cut(name: str) -> np.ndarray | str:
        window = _WINDOW.fullmatch(name)
        if window is None:
            if (height, width) != (PATCH_PX, PATCH_PX):
                return f"is {width} x {height} px, expected {PATCH_PX} x {PATCH_PX} px"
            return whole
        x, y = int(window["x"]), int(window["y"])
        if x >= width or y >= height:
            return f"({x}, {y}) lies outside its {width} x {height} px"
        left, top = x - side_px // 2, y - side_px // 2
        patch = np.zeros((side_px, side_px, 3), np.uint8)
        inside = whole[max(top, 0) : top + side_px, max(left, 0) : left + side_px]
        y0, x0 = max(-top, 0), max(-left, 0)
        patch[y0 : y0 + inside.shape[0], x0 : x0 + inside.shape[1]] = inside
        return patch

    return cut
