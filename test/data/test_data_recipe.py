from pathlib import Path

import pandas as pd
import pytest

from amf.data.recipe import load_data_recipe
from amf.errors import RecipeError

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("data-*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_data_recipe_is_valid(path: Path) -> None:
    assert load_data_recipe(path).sources


def test_the_papers_recipe_lets_midog25_win(shared_data: Path) -> None:
    (recipe,) = (load_data_recipe(path) for path in RECIPES if path.stem == "data-paper")
    names = [type(source).__name__ for source in recipe.sources]
    assert names == ["Midog25", "AmiBr", "Generic"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sources: [{source: amibr, lables: a.csv}]",
            r"sources\.0\.amibr\.lables: Extra inputs are not permitted, found 'a\.csv'",
        ),
        (
            "sources: [{source: amibr}, {source: nobr}]",
            r"sources\.1: expected the key 'source' with one of amibr, .*found \{'source': 'nobr'\}",
        ),
        ("sources: [{labels: a.csv}]", r"sources\.0: expected the key 'source' with one of amibr"),
        ("sources: [{source: amibr, patches: /abs}]", "patches: .*relative to the data root"),
        ("sources: [{source: amibr, patches: ../up}]", "patches: .*relative to the data root"),
        ("sources: [{source: amibr, patches: 7}]", "patches: .*string"),
        ("sources: [{source: generic, dataset: D, labels: l, patches: p}]", "columns: Field required"),
        (
            "sources: [{source: generic, dataset: D, labels: l, patches: p,"
            " columns: {image: i, label: l, slide: s, z: t}}]",
            r"columns\.z: Extra inputs are not permitted, found 't'",
        ),
        (
            "sources: [{source: generic, dataset: D, labels: l, patches: p, constants: {tumor: t},"
            " columns: {image: i, label: l, slide: s, tumor: t}}]",
            "tumor is both a column and a constant",
        ),
        ("sources: []", "sources: List should have at least 1 item"),
        ("sources: amibr", "sources: Input should be a valid list, found 'amibr'"),
        ("sources: [{source: amibr}]\nseed: 1", "seed: Extra inputs are not permitted, found 1"),
        (
            "sources: [{source: amibr}]\namibr_split: {side: left}",
            r"amibr_split\.side: Input should be 'train' or 'test', found 'left'",
        ),
        ("- amibr", r"the recipe: .*found \['amibr'\]"),
        ("{}", "sources: Field required"),
        ("sources: [", "is not valid YAML"),
    ],
)
def test_a_wrong_recipe_names_its_fault(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_data_recipe(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_data_recipe(tmp_path / "absent.yaml")


def test_the_published_split_has_two_sides(shared_data: Path) -> None:
    tables = {
        side: load_data_recipe(Path("recipes") / f"data-amibr-{side}.yaml").read(shared_data).table
        for side in ("train", "test")
    }
    assert {side: (len(t), int(t["label"].sum())) for side, t in tables.items()} == {
        "train": (2894, 648),
        "test": (826, 184),
    }
    assert not set(tables["train"]["slide"]) & set(tables["test"]["slide"])
    listed = pd.read_csv(shared_data / "amibr_train_split.csv")["dataset_uid"]
    assert set(tables["train"]["image"].map(lambda image: Path(image).name)) == set(listed)
