"""`amf job`: what it writes is a job, page by page the files of the folder."""

from pathlib import Path

import numpy as np
import pandas as pd

from amf.cli import main
from amf.inference.job import find_stack
from amf.inference.stack import read_stack
from test.support.drawn import draw_patch
from test.support.fixtures import Capture


def test_a_folder_becomes_a_job_in_name_order(tmp_path: Path, capsys: Capture) -> None:
    names = ("b fig.png", "a.png", "sub/ccc.png")
    drawn = {name: draw_patch(tmp_path / "in" / name, seed) for seed, name in enumerate(names)}
    (tmp_path / "in" / "notes.txt").write_text("by hand")
    out = tmp_path / "job"
    assert main(["job", str(tmp_path / "in"), "--out", str(out)]) == 0
    assert "1 files are no images by their suffix and are left out: 1 x .txt" in capsys.readouterr().out
    stack, pages = read_stack(find_stack(out)), pd.read_csv(out / "pages.csv")
    assert pages["page"].tolist() == [1, 2, 3]
    assert pages["image"].tolist() == ["a.png", "b fig.png", "sub/ccc.png"]
    for page, image in zip(stack, pages["image"], strict=True):
        np.testing.assert_array_equal(page, drawn[image])
    assert main(["job", str(tmp_path / "in"), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_is_no_patch_is_named_and_nothing_is_written(tmp_path: Path, capsys: Capture) -> None:
    draw_patch(tmp_path / "in" / "a.png")
    draw_patch(tmp_path / "in" / "b.png", px=64)
    assert main(["job", str(tmp_path / "in"), "--out", str(tmp_path / "job")]) == 2
    said = capsys.readouterr().err
    assert "1 of 2 files are no patches; the first: " in said
    assert "b.png is 64 x 64 px, expected 128 x 128" in said
    assert not (tmp_path / "job").exists()
