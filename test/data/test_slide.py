"""Patches of slides of any resolution, from whatever wrote the slide."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from amf.data.open_slide import open_slide
from amf.data.patches import read_patches
from amf.errors import DataError, JobError
from test.support.slides import lay, smooth_noise, write_dicom, write_ome, write_pyramid

Canvas = NDArray[np.uint8]
SERIES = "1.2.826.0.1.3680043.8.498.1"


NOISE = smooth_noise(6)
CANVAS, CENTRES = lay(NOISE)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_pyramid(tmp_path / "s1.tif", CANVAS, 0.25)


# ---- pixels


@pytest.mark.parametrize("mpp", [0.125, 0.0625])
def test_a_finer_slide_is_read_from_the_level_of_the_patches(tmp_path: Path, mpp: float) -> None:
    canvas, centres = lay(NOISE[:3])
    factor = round(0.25 / mpp)
    doubled = canvas.repeat(factor, 0).repeat(factor, 1)  # its levels are the canvas again, to the bit
    opened = open_slide(write_pyramid(tmp_path / "fine.tif", doubled, mpp, levels=4))
    for (x, y), patch in zip(centres, NOISE, strict=False):
        np.testing.assert_array_equal(opened.patch(factor * x, factor * y, mpp), patch)


@pytest.mark.parametrize(("scale", "limit"), [(2.0, 2.0), (1.25, 2.0), (0.5, 6.0)])
def test_another_resolution_is_resampled_without_a_shift(tmp_path: Path, scale: float, limit: float) -> None:
    for number, patch in enumerate(NOISE[:3]):
        canvas, [(x, y)] = lay([patch], columns=1)
        # Centre and size are multiples of 4 then, whole px at all scales.
        canvas = np.pad(canvas, ((3, 0), (1, 0), (0, 0)))
        canvas = canvas[: canvas.shape[0] // 4 * 4, : canvas.shape[1] // 4 * 4]
        size = round(canvas.shape[1] * scale), round(canvas.shape[0] * scale)
        other = np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.LANCZOS))
        opened = open_slide(write_pyramid(tmp_path / f"{number}.tif", other, 0.25 / scale, levels=1))
        found = opened.patch(round((x + 1) * scale), round((y + 3) * scale), 0.25 / scale).astype(int)
        inner = np.s_[8:-8, 8:-8]
        off = np.abs(found - patch)[inner].mean()
        assert off < limit
        for axis in (0, 1):
            assert np.abs(np.roll(found, 1, axis) - patch)[inner].mean() > 2 * off


def test_beyond_the_border_is_black_as_in_published_patches(slide: Path) -> None:
    opened = open_slide(slide)
    with Image.open(slide) as image:
        whole = image.convert("RGB")
        width, height = whole.size
        for x, y in [(0, 0), (20, 100), (width - 1, 70), (100, height - 5)]:
            expected = np.asarray(whole.crop((x - 64, y - 64, x + 64, y + 64)))
            np.testing.assert_array_equal(opened.patch(x, y, 0.25), expected)
    assert (opened.patch(0, 0, 0.25)[:64] == 0).all()
    for x, y in [(-1, 5), (5, -1), (width, 5), (5, height)]:
        with pytest.raises(JobError, match="lies outside"):
            opened.patch(x, y, 0.25)


CM = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER", "metadata": None}
INCH = {"resolution": (101_600, 101_600), "resolutionunit": "INCH", "metadata": None}
RGB: dict[str, Any] = {"photometric": "rgb"}
SMALL = np.full((40, 50, 3), 200, dtype=np.uint8)


def tiff(**how: Any) -> Callable[[Path, Canvas], Path]:
    """Write a page of a TIFF."""

    def write(folder: Path, canvas: Canvas) -> Path:
        pixels = np.moveaxis(canvas, 2, 0) if how.get("planarconfig") == "separate" else canvas
        tifffile.imwrite(folder / "s.tif", pixels, **how)
        return folder / "s.tif"

    return write


def imagej(unit: str, px_per_unit: float) -> Callable[[Path, Canvas], Path]:
    metadata = {"axes": "YXS", "unit": unit}
    return tiff(imagej=True, resolution=(px_per_unit, px_per_unit), metadata=metadata)


def ome(**how: Any) -> Callable[[Path, Canvas], Path]:
    return lambda folder, canvas: write_ome(folder / "s.ome.tif", canvas, **how)


def dicom(folder: Path, canvas: Canvas) -> Path:
    (folder / "case 7").mkdir()
    (folder / "case 7" / "DICOMDIR.txt").write_text("no slide")
    return write_dicom(folder / "case 7" / "0.dcm", canvas, 0.25, SERIES).parent


WRITERS: dict[str, Callable[[Path, Canvas], Path]] = {
    "pyramid": lambda folder, canvas: write_pyramid(folder / "s.tif", canvas, 0.25),
    "uncompressed": tiff(**RGB, **INCH),
    "strips": tiff(compression="deflate", rowsperstrip=16, **RGB, **INCH),
    "one strip": tiff(compression="zlib", rowsperstrip=10_000, predictor=True, **RGB, **CM),
    "planes": tiff(planarconfig="separate", **RGB, **CM),
    "planes in strips": tiff(planarconfig="separate", compression="deflate", rowsperstrip=64, **RGB, **CM),
    "planes in tiles": tiff(planarconfig="separate", compression="lzw", tile=(96, 64), **RGB, **CM),
    "BigTIFF, big-endian": tiff(bigtiff=True, byteorder=">", compression="lzw", tile=(64, 64), **RGB, **CM),
    "OME with label and macro image": ome(others=[("label image", SMALL), ("macro image", SMALL)]),
    "OME, macro image first": ome(others=[("macro", SMALL)], first=False),
    "OME in nm": ome(unit="nm", size=250.0),
    "OME in mm": ome(unit="mm", size=0.000_25),
    "OME in planes": tiff(ome=True, planarconfig="separate", compression="deflate", **RGB,
                          metadata={"axes": "SYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}),
    "ImageJ in micron": imagej("micron", 4),
    "ImageJ in \\u00B5m": imagej("\\u00B5m", 4),
    "ImageJ in mm": imagej("mm", 4_000),
    "DICOM": dicom,
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_file_gives_the_same_patches(kind: str, tmp_path: Path) -> None:
    opened = open_slide(WRITERS[kind](tmp_path, CANVAS))
    assert opened.um_per_px == pytest.approx((0.25, 0.25))
    assert opened.mpp == pytest.approx(0.25)
    assert (opened.levels[0].width, opened.levels[0].height) == CANVAS.shape[1::-1]
    for (x, y), patch in zip(CENTRES, NOISE, strict=True):
        np.testing.assert_array_equal(opened.patch(x, y, 0.25), patch)
    corner = opened.patch(3, 3, 0.25)
    np.testing.assert_array_equal(corner[61:, 61:], CANVAS[:67, :67])


def test_levels_of_ome_and_dicom_are_read(tmp_path: Path) -> None:
    canvas, centres = lay(NOISE[:2])
    doubled = canvas.repeat(2, 0).repeat(2, 1)
    ome_tiff = write_ome(tmp_path / "s.ome.tif", doubled, size=0.125, others=[("label", SMALL)])
    (tmp_path / "dicom").mkdir()
    write_dicom(tmp_path / "dicom" / "a", doubled, 0.125, SERIES)
    write_dicom(tmp_path / "dicom" / "b", canvas, 0.25, SERIES, level=1)
    for path in (ome_tiff, tmp_path / "dicom", tmp_path / "dicom" / "b"):
        opened = open_slide(path)
        assert [level.width for level in opened.levels] == [doubled.shape[1], canvas.shape[1]]
        for (x, y), patch in zip(centres, NOISE, strict=False):
            np.testing.assert_array_equal(opened.patch(2 * x, 2 * y, 0.125), patch)
    assert open_slide(ome_tiff).left_out == "label (50 x 40 px)"


def test_jpeg_tiles_give_what_openslide_gives(tmp_path: Path) -> None:
    how: dict[str, Any] = {"photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2)}
    tifffile.imwrite(tmp_path / "s.tif", CANVAS, tile=(64, 64), **how, **CM)
    expected = np.asarray(openslide.OpenSlide(tmp_path / "s.tif").read_region((0, 0), 0, (200, 150)))
    found = open_slide(tmp_path / "s.tif").levels[0].region(0, 0, 200, 150)
    np.testing.assert_array_equal(found, expected[..., :3])


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    pixels = np.full((200, 200, 4), (10, 20, 30, 255), dtype=np.uint8)
    pixels[:, :100, 3] = 0
    tifffile.imwrite(
        tmp_path / "s.tif", pixels, photometric="rgb", extrasamples=["UNASSALPHA"], tile=(64, 64), **CM
    )
    found = open_slide(tmp_path / "s.tif").levels[0].region(98, 0, 4, 1)[0]
    assert found.tolist() == [[255] * 3] * 2 + [[10, 20, 30]] * 2


def test_a_gap_of_the_scan_is_white(tmp_path: Path) -> None:
    canvas = np.full((512, 512, 3), 90, dtype=np.uint8)
    path = write_pyramid(tmp_path / "gap.tif", canvas, 0.25, levels=1)
    with tifffile.TiffFile(path, mode="r+") as tiff:  # the first of the four tiles was never scanned
        tags = tiff.pages.first.tags
        for name in ("TileByteCounts", "TileOffsets"):
            tags[name].overwrite([0, *tags[name].value[1:]])
    patch = open_slide(path).patch(256, 256, 0.25)
    assert (patch[:64, :64] == 255).all()
    assert (patch[64:] == 90).all()


def test_a_screen_resolution_is_no_microscopes(tmp_path: Path) -> None:
    canvas = np.zeros((300, 300, 3), dtype=np.uint8)
    for name, options in [("tiled.tif", {"tile": (128, 128)}), ("strips.tif", {})]:
        tifffile.imwrite(tmp_path / name, canvas, photometric="rgb", resolution=(72, 72), **options)
        assert open_slide(tmp_path / name).mpp is None


def series(folder: Path, canvas: Canvas) -> Path:
    (folder / "d").mkdir()
    for number in "12":
        write_dicom(folder / "d" / f"{number}.dcm", canvas, 0.25, SERIES + number)
    return folder / "d"


def empty(folder: Path, canvas: Canvas) -> Path:
    (folder / "d").mkdir()
    (folder / "d" / "s.svs").write_bytes(b"no slide")
    return folder / "d"


def cut(folder: Path, canvas: Canvas) -> Path:
    path = tiff(**RGB)(folder, canvas)
    path.write_bytes(path.read_bytes()[:5000])
    return path


def text(folder: Path, canvas: Canvas) -> Path:
    (folder / "s.svs").write_bytes(b"no slide" * 100)
    return folder / "s.svs"


NO_SLIDES: dict[str, tuple[Callable[[Path, Canvas], Path], str]] = {
    "absent": (lambda folder, canvas: folder / "s.svs", "s.svs: no such slide"),
    "text": (text, "is no slide that OpenSlide reads and no TIFF"),
    "cut": (cut, "is no slide"),
    "16 bits": (lambda f, c: tiff(**RGB)(f, c.astype(np.uint16)), "holds samples of 16 bits"),
    "16 bits in tiles": (
        lambda f, c: tiff(**RGB, tile=(64, 64))(f, c.astype(np.uint16)),
        "of 16 bits of kind 1",
    ),
    "floats": (lambda f, c: tiff(**RGB)(f, c.astype(np.float32)), "holds samples of 32 bits of kind 3"),
    "grey": (lambda f, c: tiff()(f, c[..., 0]), r"holds uint8 .* \(MINISBLACK\), expected 8-bit RGB"),
    "CMYK": (lambda f, c: tiff(photometric="separated")(f, np.dstack([c, c[..., 0]])), "SEPARATED"),
    "YCbCr as it is": (tiff(photometric="ycbcr", compression="deflate"), "YCBCR"),
    "two planes": (lambda f, c: tiff(**RGB)(f, np.stack([c, c])), "holds 2 planes of full size"),
    "OME, two focal planes": (
        lambda f, c: tiff(ome=True, metadata={"axes": "ZYXS"}, **RGB)(f, np.stack([c, c])),
        r"several planes \(Z 2, Y \d+, X \d+, S 3\), expected one",
    ),
    "OME, colours as channels": (
        lambda f, c: tiff(ome=True, metadata={"axes": "CYX"})(f, np.moveaxis(c, 2, 0)),
        r"several planes \(C 3",
    ),
    "OME, two scans": (
        lambda f, c: write_ome(f / "s.tif", c, others=[("ScanRegion1", c[:-20, :-30])]),
        "several scans, among them 'ScanRegion1'",
    ),
    "two DICOM series": (series, "holds 2 DICOM series"),
    "a folder": (empty, "is a folder without a DICOM slide"),
}


@pytest.mark.parametrize("kind", NO_SLIDES)
def test_files_that_are_no_slides(kind: str, tmp_path: Path) -> None:
    write, message = NO_SLIDES[kind]
    path = write(tmp_path, CANVAS)
    with pytest.raises(DataError, match=message):
        open_slide(path)
    (patch,) = read_patches(path, [f"{path.name}#x=64,y=64,mpp=0.25"])
    assert isinstance(patch, str), "what is wrong, in place of pixels"


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    tags = CM | {"resolution": (40_000, 20_000)}
    opened = open_slide(tiff(**RGB, **tags)(tmp_path, CANVAS))
    assert opened.um_per_px == pytest.approx((0.25, 0.5))
    with pytest.raises(DataError, match=r"has pixels of 0.25 x 0.5 µm, expected square ones: --mpp"):
        assert opened.mpp
    assert opened.patch(100, 100, 0.25).shape == (128, 128, 3)
