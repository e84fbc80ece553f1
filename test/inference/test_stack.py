"""Stacks as their usual writers leave them, pixel for pixel; test/hostile has the unusual and the bad."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from amf.errors import JobError
from amf.inference.stack import read_stack
from test.support.fixtures import Pages
from test.support.jobs import save_tiff


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
    path = tmp_path / "stack.mha"
    sitk.WriteImage(image, str(path), useCompression=compress)
    path = path.rename(path.with_suffix(".MHA")) if compress else path
    assert path.read_bytes().partition(b"ElementDataFile")[0].count(b"\n0008|") == 300
    np.testing.assert_array_equal(read_stack(path), pages[:count])


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
    if suffix == ".tif":
        save_tiff(path, pages)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(pages, isVector=True), str(path))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(JobError, match=str(path)):
        read_stack(path)
