"""Stacks as their usual writers leave them, pixel for pixel; test/hostile has the unusual and the bad."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

from amf.errors import JobError
from amf.inference.stack import read_stack
from test.support.jobs import save_tiff

Pages = NDArray[np.uint8]


def save_mha(path: Path, array: NDArray[np.generic], vector: bool = True, compress: bool = False) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=vector), str(path), useCompression=compress)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("suffix", [".tif", ".TIFF"])
def test_tiff_comes_back_pixel_for_pixel(tmp_path: Path, pages: Pages, count: int, suffix: str) -> None:
    path = tmp_path / f"stack{suffix}"
    save_tiff(path, pages[:count])
    np.testing.assert_array_equal(read_stack(path), pages[:count])


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("channels", [3, 4])
def test_mha_is_read_with_whatever_metadata_itk_writes(
    tmp_path: Path, pages: Pages, channels: int, count: int, compress: bool
) -> None:
    array = np.concatenate([pages, pages[..., :1]], -1)[:count, ..., :channels]
    image = sitk.GetImageFromArray(array, isVector=True)
    for number in range(300):
        image.SetMetaData(f"0008|{number:04}", f"value: {number} = {number}")
    image.SetMetaData("Report", "a long word " * 1000)
    image.SetMetaData("Nothing", "")
    sitk.WriteImage(image, str(tmp_path / "stack.mha"), useCompression=compress)
    header = (tmp_path / "stack.mha").read_bytes().partition(b"ElementDataFile")[0]
    assert header.count(b"\n0008|") == 300
    np.testing.assert_array_equal(read_stack(tmp_path / "stack.mha"), pages[:count])


def test_real_stack(shared_data: Path) -> None:
    (path,) = (shared_data / "grand-challenge" / "input" / "images").rglob("*.tiff")
    stack = read_stack(path)
    assert stack.shape == (16, 128, 128, 3)
    assert stack.dtype == np.uint8
    with Image.open(path) as image:
        image.seek(15)
        np.testing.assert_array_equal(stack[15], np.asarray(image))


@pytest.mark.parametrize("suffix", [".tif", ".mha"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_stack_is_refused(tmp_path: Path, pages: Pages, keep: float, suffix: str) -> None:
    path = tmp_path / f"stack{suffix}"
    save_tiff(path, pages) if suffix == ".tif" else save_mha(path, pages)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(JobError, match=str(path)):
        read_stack(path)


@pytest.mark.parametrize(
    ("array", "vector", "found"),
    [
        (np.zeros((2, 128, 128, 3), np.uint16), True, "MET_USHORT"),
        (np.zeros((2, 128, 128), np.uint8), False, "1 x"),
        (np.zeros((2, 64, 128, 3), np.uint8), True, "128 x 64 px"),
    ],
)
def test_mha_of_another_kind_is_refused(
    tmp_path: Path, array: NDArray[np.generic], vector: bool, found: str
) -> None:
    save_mha(tmp_path / "stack.mha", array, vector)
    with pytest.raises(JobError, match=found):
        read_stack(tmp_path / "stack.mha")
