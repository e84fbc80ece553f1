"""What every command does with the streams."""

from pathlib import Path

import pytest
import torch

from amf.cli import main
from test.support.made import SHORT, Tag, tiff
from test.support.made import Page as TiffPage


def test_warnings_of_libraries_go_to_stdout_and_our_sentence_stands_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow warns of a page whose pixels are 100 megapixels, and the file is refused all the same."""
    side = (SHORT, [10_000])
    huge = TiffPage([bytes(100)], {Tag.WIDTH: side, Tag.HEIGHT: side})
    (tmp_path / "huge.tif").write_bytes(tiff([huge]))

    code = main(["predict", str(tmp_path), "--output", str(tmp_path / "table.csv"), "--device", "cpu"])

    out, err = capsys.readouterr()
    assert code == 2
    assert "DecompressionBombWarning of Image.py: Image size (100000000 pixels)" in out
    assert "Warning" not in err
    assert "huge.tif page 1 is 10000 x 10000 px" in err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_a_wrong_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").touch()
    output = tmp_path / "table.csv"

    assert main(["predict", str(tmp_path), "--output", str(output), "--device", "cuda"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("but no CUDA device is available")
