"""Read a stack of patches (multi-page TIFF or MHA) into uint8 (N, 128, 128, 3), or say why it is none."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from amf.errors import JobError
from amf.preprocess import PATCH_PX

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (*TIFF_SUFFIXES, ".mha")

MAX_PAGES = 4096
"""More pages than this is a damaged or hostile file: the platform's stacks hold at most 16."""

COLOUR_MODES = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB")
"""Pillow modes that hold 8-bit colour; each converts to RGB without a loss that matters here."""

TIFF_BITS_PER_SAMPLE, TIFF_SAMPLE_FORMAT, UNSIGNED_INTEGER = 258, 339, 1


def read_stack(path: Path) -> NDArray[np.uint8]:
    """Read every page of a stack, in page order.

    Returns
    -------
    (N, 128, 128, 3) uint8 RGB with N >= 1. Colour that is not RGB (palette, CMYK, alpha) is converted.

    Raises
    ------
    JobError : the file is not a TIFF or MHA stack of 8-bit colour pages of 128 x 128 px.
    """
    reader = _read_mha if path.suffix.lower() == ".mha" else _read_tiff
    try:
        if path.stat().st_size == 0:
            raise JobError(f"{path} is empty, expected a TIFF or MHA stack")
        return reader(path)
    except OSError as error:
        raise JobError(f"{path} cannot be read: {error}") from error


def read_patch(path: Path) -> NDArray[np.uint8]:
    """Read one patch in any format that Pillow knows: (128, 128, 3) uint8 RGB; JobError if it is none."""
    try:
        with Image.open(path) as image:
            return _page_pixels(image, str(path))
    except UnidentifiedImageError as error:
        raise JobError(f"{path} is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise JobError(f"{path} cannot be read: {error}") from error


def _read_tiff(path: Path) -> NDArray[np.uint8]:
    """Decode a TIFF page by page; every page is checked by its header before its pixels are read."""
    pages = []
    with warnings.catch_warnings():
        # A damaged tag that does not matter to the pixels is no reason to write a warning to stderr,
        # which the platform would show to the user.
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=("TIFF",)) as image:
                for index in range(MAX_PAGES + 1):
                    try:
                        image.seek(index)
                    except EOFError:
                        break
                    if index == MAX_PAGES:
                        raise JobError(
                            f"{path} holds more than {MAX_PAGES} pages, expected at most that many"
                        )
                    pages.append(_page_pixels(image, f"{path} page {index + 1}"))
        except UnidentifiedImageError as error:
            raise JobError(f"{path} is not a TIFF that can be read, expected a TIFF or MHA stack") from error
        except JobError:
            raise
        except Exception as error:  # Pillow meets damaged files with a dozen exception types
            raise JobError(
                f"{path} page {len(pages) + 1} is damaged: {error or type(error).__name__}"
            ) from error
    if not pages:
        raise JobError(f"{path} holds no page, expected at least one")
    return np.stack(pages)  # (N, 128, 128, 3)


def _page_pixels(image: Image.Image, where: str) -> NDArray[np.uint8]:
    """Check the header of the current page, then decode it: (128, 128, 3) uint8."""
    if image.size != (PATCH_PX, PATCH_PX):
        raise JobError(f"{where} is {image.width} x {image.height} px, expected {PATCH_PX} x {PATCH_PX}")
    tags: Any = getattr(image, "tag_v2", {})
    bits, kinds = tags.get(TIFF_BITS_PER_SAMPLE, (8,)), tags.get(TIFF_SAMPLE_FORMAT, (UNSIGNED_INTEGER,))
    # Pillow reads 16-bit RGB as 8-bit in silence, so the mode alone does not tell.
    if image.mode not in COLOUR_MODES or max(bits) > 8 or set(kinds) != {UNSIGNED_INTEGER}:
        found = f"mode {image.mode} with {max(bits)} bits a sample"
        raise JobError(f"{where} holds {found}, expected 8-bit colour (RGB)")
    return np.asarray(image.convert("RGB"))


def _read_mha(path: Path) -> NDArray[np.uint8]:
    """Read a MetaImage whose header says: uint8, 3 components, (128, 128, N) or (128, 128)."""
    _check_mha_is_self_contained(path)
    import SimpleITK as sitk  # takes a third of a second, and most stacks are TIFF

    sitk.ProcessObject.GlobalWarningDisplayOff()
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        size, components = reader.GetSize(), reader.GetNumberOfComponents()
        pixel = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        if reader.GetPixelID() not in (sitk.sitkVectorUInt8, sitk.sitkUInt8) or components != 3:
            raise JobError(
                f"{path} holds {components} x {pixel} a pixel, expected 3 x 8-bit unsigned integer"
            )
        if size[:2] != (PATCH_PX, PATCH_PX):
            raise JobError(f"{path} has pages of {size[0]} x {size[1]} px, expected {PATCH_PX} x {PATCH_PX}")
        if len(size) > 3 or (len(size) == 3 and not 1 <= size[2] <= MAX_PAGES):
            raise JobError(f"{path} has size {size}, expected ({PATCH_PX}, {PATCH_PX}, 1 to {MAX_PAGES})")
        pixels = sitk.GetArrayFromImage(reader.Execute())  # (N, 128, 128, 3)
    except RuntimeError as error:
        raise JobError(f"{path} is not an MHA stack that can be read: {_last_line(error)}") from error
    return np.asarray(pixels, dtype=np.uint8).reshape(-1, PATCH_PX, PATCH_PX, 3)


def _check_mha_is_self_contained(path: Path) -> None:
    """Refuse a header that names another file for its pixels: it could name any file of the machine."""
    with path.open("rb") as file:
        header = file.read(64 * 1024)
    for line in header.split(b"\n"):
        key, _, value = line.partition(b"=")
        if key.strip() == b"ElementDataFile":
            if value.strip() != b"LOCAL":
                raise JobError(f"{path} keeps its pixels in another file, expected ElementDataFile = LOCAL")
            return
    raise JobError(f"{path} is not an MHA stack: its header names no ElementDataFile")


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
