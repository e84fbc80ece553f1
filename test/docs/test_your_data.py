"""docs/your-data.md is true: its commands run as they stand there, on 150 drawn figures in three tumours."""

import json
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from amf.cli import main
from amf.inference.job import run
from amf.inference.sockets import OUTPUT_NAME
from test.support.paths import ROOT

PAGE = (ROOT / "docs" / "your-data.md").read_text()
COMMANDS = re.search(r"## Five commands\n\n```\n(.*?)```", PAGE, re.DOTALL)[1].splitlines()
TINY = {
    "base": str(ROOT / "recipes" / "compact.yaml"),
    "name": "tiny",
    "model": {"arguments": {"widths": [8, 16], "blocks": [1, 1]}, "input_px": 32, "storage": "float32"},
    "augmentation": "none",
    "optimise": {"epochs": 1, "ema": 0},
}
WORDS = [["atypical", "AMF", "Atypical mitosis", "yes"], ["normal", "NMF", "normal mitotic figure", "No"]]


def draw_laboratory(folder: Path) -> None:
    """150 figures on 15 slides of three tumours; the votes are words, two figures tie, one has no vote."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(150):
        slide, atypical = number % 15, number // 15 % 3 == 0
        pixels = generator.integers(120, 240, (128, 128, 3), dtype=np.uint8)
        pixels[40:88, 60:68] = 40
        if atypical:
            pixels[50:80, 84:90] = 60
        file = f"case {slide:02}/fig {number:03}.png"
        (folder / "patches" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "patches" / file, compress_level=1)
        votes = [WORDS[0 if atypical else 1][number % 4], "unsure", WORDS[0 if atypical else 1][number % 3]]
        if number in (7, 70):
            votes = ["AMF", "normal", ""]
        if number == 100:
            votes = ["unsure", "", "Unsure"]
        tumour, scanner = [("breast", "Aperio"), ("lung", "3D Histech"), ("skin", "Aperio")][slide % 3]
        rows.append([file.replace("/", "\\"), f"case {slide:02}", tumour, scanner, *votes])
    names = ["file", "slide", "tumour", "scanner", "expert 1", "expert 2", "expert 3"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "figures.csv", sep=";", encoding="utf-8-sig")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    draw_laboratory(folder)
    return folder


@pytest.fixture
def laboratory(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder to work in, with what the page starts from, and a tiny recipe."""
    (tmp_path / "MINE").mkdir()
    (tmp_path / "MINE" / "patches").symlink_to(drawn / "patches")
    shutil.copy(drawn / "figures.csv", tmp_path / "MINE")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_five_commands_from_a_table_of_votes_to_a_scored_stack(
    laboratory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    *before, last = [shlex.split(line.replace("recipes/compact.yaml", "tiny.yaml")) for line in COMMANDS]
    for program, *arguments in before:
        assert (program, main(arguments)) == ("amf", 0), capsys.readouterr().err

    table, removed = (pd.read_csv(f"build/own/table{end}.csv") for end in ("", ".removed"))
    assert (len(table), table["label"].sum()) == (147, 58)
    expected = {"breast, Aperio, human": 50, "lung, 3D Histech, human": 47, "skin, Aperio, human": 50}
    assert Counter(table["domain"]) == expected
    assert Counter(removed["reason"]) == {"the experts tie": 2, "no vote but unsure": 1}
    assert json.loads(Path("build/own-bundle/bundle.json").read_text())["members"]

    assert last[:6] == ["mkdir", "-p", "build/own-answer", "&&", "python", "inference.py"]
    Path(last[2]).mkdir(parents=True)
    given = dict(zip(last[6::2], last[7::2], strict=True))
    run(Path(given["--input"]), Path(given["--output"]), Path(given["--model"]))
    answers = json.loads((laboratory / given["--output"] / OUTPUT_NAME).read_text())
    pages = pd.read_csv("build/own-job/pages.csv")
    assert len(answers) == len(pages) == 150
    assert pages["image"].tolist() == sorted(pages["image"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("expert 3", "Expert C"), "no column 'expert 3'; it has 'file', 'slide', 'tumour', 'scanner',"),
        (("case 00;breast", "case 00;oral"), "slide 'own/case 00' belongs to 2 domains"),
        (("Atypical mitosis", "ring"), "column 'expert 1': the label is 'ring', expected AMF or NMF"),
        (("fig 003.png", "fig 018.png"), "image 'patches/case 03/fig 018.png' appears a second time"),
        (("fig 003.png", "fig 903.png"), "case 03/fig 903.png (row 4 of the table): no such file"),
    ],
)
def test_what_is_refused_is_what_the_page_says(
    laboratory: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], said: str
) -> None:
    table = laboratory / "MINE" / "figures.csv"
    table.write_text(table.read_text().replace(*change, 1))
    commands = [shlex.split(line.replace("recipes/compact.yaml", "tiny.yaml"))[1:] for line in COMMANDS[:2]]
    assert 2 in (main(command) for command in commands)  # the first that refuses ends it
    assert said in capsys.readouterr().err
    assert said.partition(" ")[0].strip("':") in PAGE
