"""Stacks of every kind that is scored, and of every kind that is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from amf.errors import JobError
from amf.inference.stack import read_stack
from test.support.jobs import save_tiff
from test.support.paths import ROOT

Pages = NDArray[np.uint8]


def save_mha(path: Path, array: NDArray[np.generic], vector: bool = True, compress: bool = False) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path), useCompression=compress)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".TIF"])
def test_tiff_comes_back_pixel_for_pixel(tmp_path: Path, pages: Pages, count: int, suffix: str) -> None:
    path = tmp_path / f"stack{suffix}"
    save_tiff(path, pages[:count])
    np.testing.assert_array_equal(read_stack(path), pages[:count])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("count", [1, 5])
def test_mha_comes_back_pixel_for_pixel(tmp_path: Path, pages: Pages, count: int, compress: bool) -> None:
    path = tmp_path / "stack.mha"
    save_mha(path, pages[:count], compress=compress)
    np.testing.assert_array_equal(read_stack(path), pages[:count])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_mha_is_read_with_whatever_metadata_itk_writes(
    tmp_path: Path, pages: Pages, channels: int, compress: bool
) -> None:
    image = sitk.GetImageFromArray(np.concatenate([pages, pages[..., :1]], -1)[..., :channels], isVector=True)
    for number in range(300):
        image.SetMetaData(f"0008|{number:04}", f"value: {number} = {number}")
    image.SetMetaData("Report", "a long word " * 1000)
    image.SetMetaData("Nothing", "")
    sitk.WriteImage(image, str(tmp_path / "stack.mha"), useCompression=compress)
    header = (tmp_path / "stack.mha").read_bytes().partition(b"ElementDataFile")[0]
    assert header.count(b"\n0008|") == 300
    assert max(map(len, header.splitlines())) > 4096
    np.testing.assert_array_equal(read_stack(tmp_path / "stack.mha"), pages)


def test_simpleitk_is_imported_for_an_mha_alone(tmp_path: Path, pages: Pages) -> None:
    save_tiff(tmp_path / "stack.tif", pages)
    save_mha(tmp_path / "stack.mha", pages)
    script = f"""
import sys
from pathlib import Path
from amf.inference.stack import read_stack
read_stack(Path({str(tmp_path)!r}, "stack.tif"))
assert "SimpleITK" not in sys.modules
read_stack(Path({str(tmp_path)!r}, "stack.mha"))
assert "SimpleITK" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_mha_of_a_single_page_without_depth_is_a_stack_of_one(tmp_path: Path, pages: Pages) -> None:
    save_mha(tmp_path / "stack.mha", pages[0])
    np.testing.assert_array_equal(read_stack(tmp_path / "stack.mha"), pages[:1])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
def test_other_lossless_compressions_are_read(tmp_path: Path, pages: Pages, compression: str | None) -> None:
    save_tiff(tmp_path / "stack.tif", pages, compression=compression)
    np.testing.assert_array_equal(read_stack(tmp_path / "stack.tif"), pages)


@pytest.mark.parametrize("mode", ["RGBA", "CMYK", "P"])
def test_colour_that_is_not_rgb_is_converted(tmp_path: Path, pages: Pages, mode: str) -> None:
    image = Image.fromarray(pages[0]).convert(mode)
    image.save(tmp_path / "stack.tif")
    np.testing.assert_array_equal(read_stack(tmp_path / "stack.tif")[0], np.asarray(image.convert("RGB")))


def test_real_stack(shared_data: Path) -> None:
    (path,) = (shared_data / "grand-challenge" / "input" / "images").rglob("*.tiff")
    stack = read_stack(path)
    assert stack.shape == (16, 128, 128, 3)
    assert stack.dtype == np.uint8
    with Image.open(path) as image:
        image.seek(15)
        np.testing.assert_array_equal(stack[15], np.asarray(image))


def rejected(path: Path) -> str:
    with pytest.raises(JobError) as caught:
        read_stack(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").touch()
    assert "is empty" in rejected(tmp_path / "stack.tif")


@pytest.mark.parametrize("name", ["stack.tif", "stack.mha"])
def test_what_is_not_an_image_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is not an image" * 50)
    assert "is not a" in rejected(tmp_path / name)


def test_a_png_in_tiff_clothing_is_refused(tmp_path: Path, pages: Pages) -> None:
    Image.fromarray(pages[0]).save(tmp_path / "stack.tif", format="PNG")
    assert "not a TIFF" in rejected(tmp_path / "stack.tif")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_tiff_is_refused(tmp_path: Path, pages: Pages, keep: float) -> None:
    path = tmp_path / "stack.tif"
    save_tiff(path, pages)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    rejected(path)


def test_a_truncated_mha_is_refused(tmp_path: Path, pages: Pages) -> None:
    path = tmp_path / "stack.mha"
    save_mha(path, pages)
    path.write_bytes(path.read_bytes()[:-1000])
    rejected(path)


def test_a_tiff_without_pages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stack.tif").write_bytes(b"II*\0" + bytes(4))
    rejected(tmp_path / "stack.tif")


def test_a_page_of_another_size_is_refused_by_number(tmp_path: Path, pages: Pages) -> None:
    small = Image.fromarray(pages[0, :64])
    Image.fromarray(pages[0]).save(tmp_path / "stack.tif", save_all=True, append_images=[small])
    assert "page 2 is 128 x 64 px, expected 128 x 128" in rejected(tmp_path / "stack.tif")


def write_tiff_page(path: Path, pixels: bytes, bits: int, samples: int, sample_format: int) -> None:
    """Write a TIFF by hand, as Pillow cannot write more than 8 bits of colour."""
    tags = [
        (256, 3, 1, 128),
        (257, 3, 1, 128),
        (258, 3, samples, 8 if samples > 1 else bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if samples == 3 else 1),
        (273, 4, 1, 256),
        (277, 3, 1, samples),
        (278, 3, 1, 128),
        (279, 4, 1, len(pixels)),
        (339, 3, samples, 14 if samples > 1 else sample_format),
    ]
    data = bytearray(b"II*\0" + (32).to_bytes(4, "little"))
    data += b"".join(bits.to_bytes(2, "little") for _ in range(3))  # at offset 8
    data += b"".join(sample_format.to_bytes(2, "little") for _ in range(3))  # at offset 14
    data = data.ljust(32, b"\0") + len(tags).to_bytes(2, "little")
    for tag, kind, count, value in tags:
        data += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little")
        data += value.to_bytes(4, "little")
    path.write_bytes(bytes(data).ljust(256, b"\0") + pixels)


@pytest.mark.parametrize(
    ("bits", "samples", "sample_format"),
    [(16, 3, 1), (32, 1, 3), (16, 1, 1), (8, 1, 1), (8, 3, 2)],
    ids=["16-bit RGB", "float", "16-bit grey", "8-bit grey", "signed RGB"],
)
def test_pixels_that_are_not_8_bit_colour_are_refused(
    tmp_path: Path, bits: int, samples: int, sample_format: int
) -> None:
    write_tiff_page(
        tmp_path / "stack.tif", bytes(128 * 128 * samples * bits // 8), bits, samples, sample_format
    )
    rejected(tmp_path / "stack.tif")


def test_the_hand_written_tiff_is_read_when_it_is_8_bit_rgb(tmp_path: Path) -> None:
    write_tiff_page(tmp_path / "stack.tif", bytes([7]) * (128 * 128 * 3), 8, 3, 1)
    assert (read_stack(tmp_path / "stack.tif") == 7).all()


@pytest.mark.parametrize(
    ("array", "vector", "found"),
    [
        (np.zeros((2, 128, 128, 3), np.uint16), True, "MET_USHORT"),
        (np.zeros((2, 128, 128, 3), np.float32), True, "MET_FLOAT"),
        (np.zeros((2, 128, 128), np.uint8), False, "1 x"),
        (np.zeros((2, 64, 128, 3), np.uint8), True, "128 x 64 px"),
    ],
)
def test_mha_of_another_kind_is_refused(
    tmp_path: Path, array: NDArray[np.generic], vector: bool, found: str
) -> None:
    save_mha(tmp_path / "stack.mha", array, vector)
    assert found in rejected(tmp_path / "stack.mha")


def test_mha_that_points_to_another_file_is_refused(tmp_path: Path, pages: Pages) -> None:
    path = tmp_path / "stack.mha"
    save_mha(path, pages)
    path.write_bytes(path.read_bytes().replace(b"= LOCAL", b"= x.raw"))
    assert "another file" in rejected(path)


def test_too_many_pages_are_refused(tmp_path: Path, pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amf.inference.tiff.MAX_PAGES", 3)
    save_tiff(tmp_path / "stack.tif", pages)
    assert "more than 3 pages" in rejected(tmp_path / "stack.tif")


def test_a_file_name_with_a_newline_stays_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "sta\nck.tif"
    path.write_bytes(b"nothing")
    with pytest.raises(JobError) as caught:
        read_stack(path)
    assert "\n" not in str(caught.value)
