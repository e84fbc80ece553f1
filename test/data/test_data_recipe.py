import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from amf.data.recipe import load_data_recipe
from amf.errors import RecipeError
from test.support.paths import ROOT

RECIPES = sorted((ROOT / "recipes").glob("data-*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_data_recipe_is_valid(path: Path) -> None:
    assert load_data_recipe(path).sources


def test_the_papers_recipe_lets_midog25_win(shared_data: Path) -> None:
    (recipe,) = (load_data_recipe(path) for path in RECIPES if path.stem == "data-paper")
    names = [type(source).__name__ for source in recipe.sources]
    assert names == ["Midog25", "AmiBr", "Generic"]


GENERIC = "sources: [{source: generic, dataset: D, labels: l%s, columns: {image: i, slide: s, %s}}]"
AMIBR = "sources: [{source: amibr%s}]%s"
WRONG = [
    (
        AMIBR % (", lables: a.csv", ""),
        "sources.0.amibr: the key 'lables' is unknown, expected one of source,",
    ),
    ("sources: [{source: amibr}, {source: nobr}]", "sources.1: expected the key 'source' with one of ami"),
    ("sources: [{labels: a.csv}]", "sources.0: expected the key 'source' with one of amibr"),
    (AMIBR % (", patches: /abs", ""), "patches: the path '/abs' leaves the data root"),
    (AMIBR % (", patches: ../up", ""), "patches: the path '../up' leaves the data root"),
    (AMIBR % (", patches: 7", ""), "patches: Input should be a valid string, found 7"),
    ("sources: [{source: generic, dataset: D, labels: l}]", "0.generic.columns: this key is missing"),
    (GENERIC % ("", "label: l, tumour: t"), "columns: the key 'tumour' is unknown, expected one of image,"),
    (GENERIC % ("", "x: x"), "columns: there is neither label nor votes"),
    (GENERIC % (", constants: {tumor: t}", "label: l, tumor: t"), "tumor is both a column and a constant"),
    (GENERIC % (", spellings: {Yes: 1}", "label: l"), "spellings must map the words for NMF to 0"),
    ("sources: []", "sources: List should have at least 1 item"),
    ("sources: amibr", "sources: Input should be a valid list, found 'amibr'"),
    (
        AMIBR % ("", "\nseed: 1"),
        "the content: the key 'seed' is unknown, expected one of sources, amibr_split",
    ),
    (AMIBR % ("", "\namibr_split: {side: left}"), "side: Input should be 'train' or 'test', found 'left'"),
    ("- amibr", "the content: Input should be a valid dictionary or instance of"),
    ("{}", "sources: this key is missing"),
    ("sources: [", "is not valid YAML"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_a_wrong_recipe_names_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=re.escape(message)) as caught:
        load_data_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_and_a_table_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_data_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match=r"figures\.csv is a table, expected a recipe, a YAML file$"):
        load_data_recipe(tmp_path / "figures.csv")


def test_a_typo_shows_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("sources: [{source: amibr, lables: a}]")
    (tmp_path / "fit.yaml").write_text((ROOT / "recipes/compact.yaml").read_text() + "\nlos: 1")
    lines = [
        [command, str(tmp_path / f"{command}.yaml"), flag, ".", "--out", str(tmp_path / "out")]
        for command, flag in [("data", "--root"), ("fit", "--data")]
    ]
    heavy = "{'torch', 'pandas', 'sklearn'} & set(sys.modules)"
    code = f"import sys, amf.cli; print([amf.cli.main(line) for line in {lines}], {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[2, 2] set()\n"
    assert "the key 'lables' is unknown" in done.stderr
    assert "the key 'los' is unknown" in done.stderr


@pytest.mark.parametrize(("side", "figures"), [("train", 2894), ("test", 826)])
def test_the_published_split_has_two_sides(shared_data: Path, side: str, figures: int) -> None:
    table = load_data_recipe(ROOT / "recipes" / f"data-amibr-{side}.yaml").read(shared_data).table
    listed = set(pd.read_csv(shared_data / "amibr_train_split.csv")["dataset_uid"])
    assert len(table) == figures
    assert {Path(image).name in listed for image in table["image"]} == {side == "train"}
