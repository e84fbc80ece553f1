"""docs/slides.md: every command of it, in its order, from a drawn slide to a retrained bundle."""

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

PAGE = (ROOT / "docs" / "slides.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line) for block in BLOCKS for line in block.splitlines()]


def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(maps, "attribute", partial(maps.attribute, steps=8))  # a quarter of the time
    said = {}
    for command in COMMANDS:
        if command[:3] == ["python", "-m", "docs.make_slides_example"]:
            make_slides_example.main(command[3:])
        else:
            assert command[0] == "amf"
            assert amf(command[1:]) == 0, command
        said[command[1]] = capsys.readouterr().out
    assert len(COMMANDS) == 11

    demo = tmp_path / "build" / "demo"
    figures = make_slides_example.FIGURES
    answers = json.loads((demo / "lab-a.answers.geojson").read_text())
    given = json.loads((demo / "lab-a.geojson").read_text())
    assert [f["id"] for f in answers["features"]] == [f["id"] for f in given["features"]]
    assert all("P(atypical)" in f["properties"]["measurements"] for f in answers["features"])
    assert f"{figures} figures" in (demo / "review.html").read_text()
    assert (demo / "data.yaml").read_text() in PAGE
    ties = figures // make_slides_example.DISAGREEMENT
    assert len(pd.read_csv(demo / "data" / "table.csv")) == 2 * (figures - ties)
    assert f"lab-a: Kappa between Anna and Ben: 0.{int(1000 * (1 - 2 * ties / figures))}" in said["data"]
    retrained = pd.read_csv(demo / "lab-a.retrained.csv")
    first = pd.read_csv(demo / "lab-a.answers.csv")
    assert retrained["image"].tolist() == first["image"].tolist()
    assert (retrained["confidence"] - first["confidence"]).abs().max() > 0.01
    evaluated = json.loads((demo / "report" / "metrics.json").read_text())
    assert evaluated["figures"]["overall"]["all"] == figures - ties

    # The pictures of a report are those of errors: a vote for the other class makes every answer one.
    votes = [demo / "review-Anna.csv", demo / "review-Ben.csv"]
    for path in votes:
        table = pd.read_csv(path)
        table["vote"] = table["vote"].replace({"atypical": "normal", "normal": "atypical"})
        table.to_csv(path, index=False)
    command = ["evaluate", "build/demo/lab-a.answers.csv", "--truth", *map(str, votes), "--patches", "."]
    assert amf([*command, "--output", "reversed"]) == 0
    errors = json.loads((tmp_path / "reversed" / "metrics.json").read_text())["figures"]["overall"]
    assert errors["fn"] + errors["fp"] > (figures - ties) / 2
    assert "data:image/jpeg" in (tmp_path / "reversed" / "report.html").read_text()


@pytest.mark.parametrize("name", re.findall(r"\]\((slides-[a-z-]+\.png)\)", PAGE))
def test_pictures_of_the_page_are_there(name: str) -> None:
    assert (ROOT / "docs" / name).stat().st_size > 10_000
