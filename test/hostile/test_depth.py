"""Nothing but 8 bits a sample, and no more than is read: one gate, wherever patches are read."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from amf.augmentation.contact_sheet import read_examples
from amf.bulk.read import read_pages
from amf.data.patches import read_patches
from amf.errors import AmfError, JobError
from amf.evaluation.report import _thumbnail
from amf.inference.stack import read_stack
from test.support.made import SHORT, Page, Tag, rgb_page, tiff

DEEP = np.random.default_rng(0).integers(0, 65536, (128, 128, 4), dtype=np.uint16)
DEEP_RGB, DEEP_GREY = DEEP[..., :3].copy(), DEEP[..., :2].copy()
NOISE = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)


def saved(pages: NDArray[np.uint8], kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(out, format=kind, **(options | ({"append_images": rest, "save_all": True} if rest else {})))
    return out.getvalue()


def written(pages: NDArray[np.generic], **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pages, **{"photometric": "rgb", **options})
    return out.getvalue()


def of_16_colours() -> bytes:
    out = io.BytesIO()
    Image.fromarray(NOISE[0]).quantize(16).save(out, format="PNG", bits=4)
    return out.getvalue()


BMP_OF_5_BITS = (
    b"BM" + struct.pack("<IHHI", 54 + 128 * 256, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 128, 128, 1, 16, 0, 128 * 256, 0, 0, 0, 0) + DEEP[:, :, 0].tobytes()
)  # fmt: skip
NOT_8_BIT = {
    "PNG, 16-bit RGB": imagecodecs.png_encode(DEEP_RGB),
    "PNG, 16-bit RGB with alpha": imagecodecs.png_encode(DEEP),
    "PNG, 16-bit grey": imagecodecs.png_encode(DEEP_GREY[..., 0].copy()),
    "PNG, 16-bit grey with alpha": imagecodecs.png_encode(DEEP_GREY),
    "PNG, 8-bit grey": imagecodecs.png_encode(NOISE[0, :, :, 0].copy()),
    "TIFF, 16-bit RGB": written(DEEP_RGB),
    "TIFF, 16-bit RGB with alpha": written(DEEP, extrasamples=["unassalpha"]),
    "TIFF, 16-bit CMYK": written(DEEP, photometric="separated"),
    "TIFF, 16-bit RGB, deflated": written(DEEP_RGB, compression="deflate"),
    "TIFF, 16-bit RGB, in planes": written(np.moveaxis(DEEP_RGB, 2, 0), planarconfig="separate"),
    "TIFF, signed": written(DEEP_RGB.astype(np.int8)),
    "TIFF, 32-bit float": written(DEEP_RGB.astype(np.float32)),
    "TIFF, 8-bit grey": written(NOISE[0, :, :, 0], photometric="minisblack"),
    "BMP, 5 bits": BMP_OF_5_BITS,
    "JPEG, 12-bit": imagecodecs.jpeg_encode(DEEP_RGB >> 4, bitspersample=12),
    "JPEG 2000, 16-bit": imagecodecs.jpeg2k_encode(DEEP_RGB, level=0),
    "AVIF, 10-bit": imagecodecs.avif_encode(DEEP_RGB >> 6, bitspersample=10, level=90),
    "PPM, 16-bit": b"P6 128 128 65535\n" + DEEP_RGB.astype(">u2").tobytes(),
}
HALF = {Tag.WIDTH: (SHORT, [64]), Tag.HEIGHT: (SHORT, [64])}
EIGHT_BIT = {
    "PNG": saved(NOISE[:1], "PNG"),
    "PNG, palette of 4 bits": of_16_colours(),
    "BMP": saved(NOISE[:1], "BMP"),
    "TIFF": saved(NOISE[:1], "TIFF"),
    "TIFF with a smaller version": tiff([rgb_page(NOISE[0]), Page([NOISE[0, :64, :64].tobytes()], HALF)]),
    "WebP": saved(NOISE[:1], "WEBP", lossless=True),
}
OME = '<OME><Image><Pixels SizeX="128" SizeY="128" SizeZ="3" SizeC="3" SizeT="1"/></Image></OME>'
IMAGEJ = "ImageJ=1.54f\nslices=3\n"
MORE_THAN_IS_READ = {
    "ImageJ, truncated": written(NOISE, imagej=True, truncate=True),
    "tifffile, truncated": written(NOISE, truncate=True),
    "nothing says so, truncated": written(NOISE, truncate=True, metadata=None),
    "volumetric": written(NOISE, volumetric=True, tile=(16, 16, 16)),
    "volumetric, deflated": written(NOISE, volumetric=True, tile=(16, 16, 16), compression="deflate"),
    "ImageJ's description": written(NOISE[:1], description=f"{IMAGEJ}images=3\n", metadata=None),
    "ImageJ's hyperstack": written(NOISE[:1], description=f"{IMAGEJ}frames=2\n", metadata=None),
    "OME": written(NOISE[:1], description=OME, metadata=None),
    "MetaMorph": tiff([Page([NOISE.tobytes()], {33629: (5, [0] * 6), Tag.COUNTS: (4, [49152])})]),
    "ImageDepth": tiff([Page([NOISE.tobytes()], {32997: (4, [3])})]),
    "one strip of three pages": tiff([Page([NOISE.tobytes()])]),
    "two pages and an orphan": tiff([rgb_page(NOISE[0]), Page([NOISE[1:].tobytes()])]),
}


READERS: dict[str, Callable[[Path], object]] = {
    "predict": lambda path: read_pages(path)[0],
    "data": lambda path: read_patches(path, [path.name])[0],
    "windows": lambda path: read_patches(path, [f"{path.name}#x=64,y=64"])[0],
    "augment": lambda path: read_examples(path.parent, 1)[0].permute(1, 2, 0).numpy(),
    "report": lambda path: _thumbnail(path.parent, path.name, 0),
}
"""Every way in which the package reads a file of one patch; each raises, or gives a sentence or None."""


@pytest.mark.parametrize("kind", NOT_8_BIT)
def test_no_reader_takes_what_has_not_8_bits_a_sample(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(NOT_8_BIT[kind])
    for reader, read in READERS.items():
        try:
            result = read(tmp_path / "a.png")
        except AmfError as error:
            assert "8-bit colour" in str(error) or "is not an image that can be read" in str(error)  # noqa: PT017
        else:
            assert result is None or isinstance(result, str), f"{reader} read it"


@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_every_reader_gives_the_same_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(EIGHT_BIT[kind])
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    for reader in ("predict", "data", "windows", "augment"):
        np.testing.assert_array_equal(READERS[reader](path), expected)
    assert str(READERS["report"](path)).startswith("data:image/jpeg")


@pytest.mark.parametrize("kind", MORE_THAN_IS_READ)
def test_a_tiff_that_holds_more_than_is_read_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.tif").write_bytes(MORE_THAN_IS_READ[kind])
    with pytest.raises(JobError, match="holds more than is read"):
        read_stack(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"imagej": True},
        {"ome": True},
        {"metadata": None},
        {"compression": "deflate"},
        {"tile": (64, 64)},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
)
def test_a_tiff_with_a_directory_a_page_is_read_whoever_wrote_it(
    tmp_path: Path, options: dict[str, object]
) -> None:
    (tmp_path / "a.tif").write_bytes(written(NOISE, **options))
    np.testing.assert_array_equal(read_stack(tmp_path / "a.tif"), NOISE)


@pytest.mark.parametrize(
    "content",
    [
        saved(NOISE, "TIFF"),
        saved(NOISE, "GIF"),
        saved(NOISE, "PNG"),  # animated, of which the first is a plain PNG
        saved(NOISE, "WEBP", lossless=True),
        saved(NOISE, "MPO"),
        *(MORE_THAN_IS_READ[kind] for kind in ("ImageJ, truncated", "nothing says so, truncated")),
        MORE_THAN_IS_READ["one strip of three pages"],
    ],
)
def test_a_patch_file_with_several_pictures_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for name in ("predict", "augment"):
        with pytest.raises(AmfError, match="holds 3 pictures, of which one would be read"):
            READERS[name](path)
    assert "holds 3 pictures" in str(READERS["data"](path))
