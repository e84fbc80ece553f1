"""docs/slides.md and docs/detection.md: every command of a page, in its order, on drawn slides."""

import json
import re
import shlex
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from amf.cli import main as amf
from amf.evaluation import maps
from docs import make_slides_example
from test.support.paths import ROOT

DOCS = ROOT / "docs"
FIGURES = make_slides_example.FIGURES


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that both pages draw into, below the one where commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(maps, "attribute", partial(maps.attribute, steps=8))  # a quarter of the time
    return tmp_path / "build" / "demo"


def run_commands(page: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Run the commands of a page; what the last of each name said, by name."""
    said = {}
    for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for program, *arguments in map(shlex.split, block.splitlines()):
            if program == "python":
                assert arguments[:2] == ["-m", "docs.make_slides_example"]
                make_slides_example.main(arguments[2:])
            else:
                assert (program, amf(arguments)) == ("amf", 0), arguments
                said[arguments[0]] = capsys.readouterr().out
    return said


def test_from_a_slide_to_a_retrained_bundle(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "slides.md").read_text()
    said = run_commands(page, capsys)
    assert said.keys() == {"slide", "review", "data", "lodo", "final", "evaluate"}

    answers = json.loads((demo / "lab-a.answers.geojson").read_text())
    given = json.loads((demo / "lab-a.geojson").read_text())
    assert [f["id"] for f in answers["features"]] == [f["id"] for f in given["features"]]
    assert all("P(atypical)" in f["properties"]["measurements"] for f in answers["features"])
    assert f"{FIGURES} figures" in (demo / "review.html").read_text()
    assert (demo / "data.yaml").read_text() in page
    ties = FIGURES // make_slides_example.DISAGREEMENT
    assert len(pd.read_csv(demo / "data" / "table.csv")) == 2 * (FIGURES - ties)
    assert f"lab-a: Kappa between Anna and Ben: 0.{int(1000 * (1 - 2 * ties / FIGURES))}" in said["data"]
    retrained = pd.read_csv(demo / "lab-a.retrained.csv")
    first = pd.read_csv(demo / "lab-a.answers.csv")
    assert retrained["image"].tolist() == first["image"].tolist()
    assert (retrained["confidence"] - first["confidence"]).abs().max() > 0.01
    evaluated = json.loads((demo / "report" / "metrics.json").read_text())
    assert evaluated["figures"]["overall"]["all"] == FIGURES - ties

    # The pictures of a report are those of errors: a vote for the other class makes every answer one.
    votes = [demo / "review-Anna.csv", demo / "review-Ben.csv"]
    for path in votes:
        table = pd.read_csv(path)
        table["vote"] = table["vote"].replace({"atypical": "normal", "normal": "atypical"})
        table.to_csv(path, index=False)
    command = ["evaluate", str(demo / "lab-a.answers.csv"), "--truth", *map(str, votes), "--patches", "."]
    assert amf([*command, "--output", "reversed", "--replicates", "100"]) == 0
    errors = json.loads(Path("reversed", "metrics.json").read_text())["figures"]["overall"]
    assert errors["fn"] + errors["fp"] > (FIGURES - ties) / 2
    assert "data:image/jpeg" in Path("reversed", "report.html").read_text()


def test_from_a_detectors_store_to_atypical_figures_per_mm2(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_commands((DOCS / "detection.md").read_text(), capsys)

    answers = pd.read_csv(demo / "atypical.csv")
    assert len(answers) == FIGURES
    left, outside = pd.read_csv(demo / "atypical.counts.csv").to_dict("records")
    width, height = 10 * 150 + 23, 4 * 150 + 37  # px of the drawn slide, at 0.25 µm/px
    inside = answers[answers["x"] <= width // 2]
    assert left["region"] == "left half"
    assert left["area_mm2"] == pytest.approx((width // 2) * height * 0.25**2 / 1e6, abs=1e-4)
    assert left["figures"] == len(inside)
    assert left["atypical"] == (inside["class"] == "atypical").sum() > 0
    assert left["atypical_per_mm2"] == pytest.approx(left["atypical"] / left["area_mm2"], rel=0.01)
    assert outside["figures"] == FIGURES - len(inside)
    (tissue,) = pd.read_csv(demo / "tissue.counts.csv").to_dict("records")
    assert tissue["figures"] == FIGURES
    assert 0 < tissue["area_mm2"] < width * height * 0.25**2 / 1e6
    assert "figures" in (demo / "detected.html").read_text()
