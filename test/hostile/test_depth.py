"""Nothing but 8 bits a sample, and no more than is read: one gate, wherever patches are read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from amf.augmentation import contact_sheet
from amf.bulk.read import read_pages
from amf.data.open_slide import open_slide
from amf.data.packed import pack
from amf.data.patches import read_patches
from amf.errors import AmfError, JobError
from amf.evaluation.report import _thumbnail
from amf.inference.stack import read_stack
from test.hostile.depths import DEEP, EIGHT_BIT, MORE_THAN_IS_READ, NOISE, NOT_8_BIT, saved, written
from test.support.drawn import draw_patches, drawn_table
from test.support.made import SHORT, Page, Tag, tiff

Pages = NDArray[np.uint8]


def readers(patches: Path) -> dict[str, Callable[[Path], object]]:
    """Every way in which the package reads a file of one patch; each raises, or gives a sentence or None."""
    return {
        "predict": lambda path: read_pages(path),
        "data": lambda path: read_patches(path, [path.name])[0],
        "windows": lambda path: read_patches(path, [f"{path.name}#x=64,y=64"])[0],
        "augment": lambda path: contact_sheet._read_patch(path),
        "report": lambda path: _thumbnail(path.parent, path.name, 0),
    }


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
@pytest.mark.parametrize("kind", NOT_8_BIT)
def test_no_reader_takes_what_has_not_8_bits_a_sample(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(NOT_8_BIT[kind])
    for reader, read in readers(tmp_path).items():
        try:
            result = read(tmp_path / name)
        except AmfError as error:
            assert "8-bit colour" in str(error) or "is not an image that can be read" in str(error)  # noqa: PT017
        else:
            assert result is None or isinstance(result, str), f"{reader} read it"


def test_amf_data_names_a_16_bit_png(tmp_path: Path) -> None:
    table = drawn_table(4)
    draw_patches(table, tmp_path / "root")
    (tmp_path / "root" / table["image"][1]).write_bytes(NOT_8_BIT["PNG, 16-bit RGB"])
    with pytest.raises(AmfError, match=r"row 2 of the table.*16 bits a sample, expected 8-bit colour"):
        pack(table, tmp_path / "root", tmp_path / "patches.npy")


@pytest.mark.parametrize("kind", EIGHT_BIT)
def test_every_reader_gives_the_same_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(EIGHT_BIT[kind])
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    read = readers(tmp_path)
    np.testing.assert_array_equal(read["predict"](path), expected[None])
    for reader in ("data", "windows", "augment"):
        np.testing.assert_array_equal(read[reader](path), expected)
    assert str(read["report"](path)).startswith("data:image/jpeg")


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
    ("content", "count"),
    [
        (saved(NOISE, "TIFF"), 3),
        (saved(NOISE, "GIF"), 3),
        (saved(NOISE, "PNG"), 3),  # animated, of which the first is a plain PNG
        (saved(NOISE, "WEBP", lossless=True), 3),
        (saved(NOISE, "MPO"), 3),
        (written(NOISE, imagej=True, truncate=True), 3),
        (written(NOISE, truncate=True, metadata=None), 3),
        (MORE_THAN_IS_READ["one strip of three pages"], 3),
    ],
)
def test_a_patch_file_with_several_pictures_is_refused(tmp_path: Path, content: bytes, count: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for name in ("predict", "augment"):
        with pytest.raises(AmfError, match=f"holds {count} pictures, of which one would be read"):
            readers(tmp_path)[name](path)
    assert f"holds {count} pictures" in str(readers(tmp_path)["data"](path))


@pytest.mark.parametrize(
    "tags", [{Tag.ROWS: (SHORT, [0])}, {Tag.TILE_WIDTH: (SHORT, [0]), Tag.TILE_HEIGHT: (SHORT, [16])}]
)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_strips_of_no_rows_are_refused(tmp_path: Path, tags: dict[int, object], name: str) -> None:
    (tmp_path / name).write_bytes(tiff([Page([NOISE[0].tobytes()], tags)]))  # type: ignore[arg-type]
    with pytest.raises(JobError, match=name):
        read_pages(tmp_path / name)


@pytest.mark.parametrize("options", [{"tile": (64, 64)}, {}, {"compression": "deflate"}])
@pytest.mark.parametrize(
    ("pages", "message"),
    [
        (DEEP[..., :3], "samples of 16 bits of kind 1, expected 8 bits"),
        (DEEP[..., :3].astype(np.float32), "samples of 32 bits of kind 3"),
        (NOISE, "holds 3 planes of full size"),
    ],
)
def test_a_slide_of_another_depth_or_of_several_planes_is_refused(
    tmp_path: Path, pages: NDArray[np.generic], message: str, options: dict[str, object]
) -> None:
    (tmp_path / "slide.tif").write_bytes(written(pages, **options))
    with pytest.raises(AmfError, match=message):
        open_slide(tmp_path / "slide.tif")
    result = read_patches(tmp_path / "slide.tif", ["slide.tif#x=64,y=64,mpp=0.25"])[0]
    assert isinstance(result, str)
