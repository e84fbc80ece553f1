"""docs/detection.md: from a slide and a detector's store to counts of atypical figures a mm²."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from amf.cli import main as amf
from docs import make_slides_example
from test.support.paths import ROOT

PAGE = (ROOT / "docs" / "detection.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (shlex.split(line) for block in BLOCKS for line in block.splitlines()):
        if command[0] == "python":
            make_slides_example.main(command[3:])
        else:
            assert amf(command[1:]) == 0, command
    assert len(BLOCKS) == 4
    demo = tmp_path / "build" / "demo"
    answers = pd.read_csv(demo / "atypical.csv")
    assert len(answers) == make_slides_example.FIGURES
    left, outside = pd.read_csv(demo / "atypical.counts.csv").to_dict("records")
    width, height = 10 * 150 + 23, 4 * 150 + 37  # px of the drawn slide, at 0.25 µm/px
    inside = answers[answers["x"] <= width // 2]
    assert left["region"] == "left half"
    assert left["area_mm2"] == pytest.approx((width // 2) * height * 0.25**2 / 1e6, abs=1e-4)
    assert left["figures"] == len(inside)
    assert left["atypical"] == (inside["class"] == "atypical").sum() > 0
    assert left["atypical_per_mm2"] == pytest.approx(left["atypical"] / left["area_mm2"], rel=0.01)
    assert outside["figures"] == len(answers) - len(inside)
    (tissue,) = pd.read_csv(demo / "tissue.counts.csv").to_dict("records")
    assert tissue["figures"] == len(answers)
    assert 0 < tissue["area_mm2"] < width * height * 0.25**2 / 1e6
    assert "figures" in (demo / "detected.html").read_text()
