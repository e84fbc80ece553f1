"""Recipes are checked when they are read, and every fault is named."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from amf.errors import RecipeError
from amf.training.recipe import (
    BASELINE,
    override,
    parse_recipe,
    read_recipe,
    read_recipes,
    read_variants,
    write_recipe,
)
from test.support.paths import ROOT
from test.support.small import compact_recipe

# `sources` names data sets (amf.data.recipe)
TRAINING = [
    path
    for path in sorted((ROOT / "recipes").glob("*.yaml"))
    if "sources" not in yaml.safe_load(path.read_text())
]


def test_the_recipes_that_the_readme_promises_are_there() -> None:
    assert {"compact", "h-optimus-0", "virchow2"} <= {path.stem for path in TRAINING}


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_every_training_recipe_parses_and_survives_being_saved(path: Path, tmp_path: Path) -> None:
    recipes, name = read_recipes(path), path.stem.removesuffix("-grid")
    assert path.stem != name or recipes[0].name == name
    assert all(recipe.name.startswith((f"{name}: ", f"{name}, ")) for recipe in recipes[1:])
    for recipe in recipes:
        write_recipe(recipe, tmp_path / "recipe.yaml")
        assert read_recipe(tmp_path / "recipe.yaml") == recipe


def test_the_defaults_are_the_papers() -> None:
    recipe = parse_recipe(
        {"name": "a", "model": {"backbone": "compact", "weights": "random", "train": "all"}}, "a"
    )
    assert (recipe.loss.gamma, recipe.loss.contrastive, recipe.loss.domain) == (2.0, 0.5, 0.1)
    assert recipe.loss.labels == "soft"
    assert recipe.loss.adaptive_weight
    assert recipe.sampling.hard_mining
    assert recipe.augmentation == "medium"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "the key 'surprise' is unknown, expected one of name, model, augm"),
        ({"optimise.epoch": 3}, "optimise: the key 'epoch' is unknown"),
        ({"optimize.epochs": 3}, "optimize.epochs is unknown"),
        ({"model.lora.rank": 3}, "model.lora.rank is unknown"),
        ({"optimise.epochs": 0}, "optimise.epochs: Input should be greater than or equal to 1, found 0"),
        ({"optimise.epochs": 0, "optimise.batch": 1}, "and 1 further fault"),
        ({"optimise.learning_rate": float("nan")}, "optimise.learning_rate"),
        ({"model.backbone": "resnet"}, "backbone 'resnet' is unknown, expected one of compact"),
        ({"augmentation": "wild"}, "augmentation 'wild': expected one of none"),
        ({"mixup": "wild"}, "mixup 'wild': expected one of standard"),
        ({"loss.gamma": 0.5}, "gamma is 0.5, expected 0 or at least 1"),
        ({"model.train": "lora"}, "train is 'lora', expected 'lora' exactly where"),
        ({"model.train": "head"}, "weights are random and train is 'head'"),
        ({"model.field_of_view_px": 129}, "model.field_of_view_px"),
        (
            {"model.train": "lora", "model.lora": {}, "model.weights": "hub"},
            "the compact backbone is trained whole",
        ),
    ],
)
def test_a_fault_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        override(compact_recipe(), changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_override_changes_those_values_alone() -> None:
    before = compact_recipe()
    after = override(before, {"optimise.epochs": 7, "mixup": None, "model.arguments": {"blocks": 2}})
    assert (after.optimise.epochs, after.mixup, after.model.arguments) == (7, None, {"blocks": 2})
    back = {"optimise.epochs": 4, "mixup": "standard", "model.arguments": before.model.arguments}
    assert override(after, back) == before


BASE = """
name: plain
model: {backbone: compact, weights: random, train: all, arguments: {widths: [8, 16]}}
optimise: {epochs: 7, batch: 32}
"""


def test_a_recipe_states_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "plain.yaml").write_text(BASE)
    (tmp_path / "recipes" / "short.yaml").write_text(
        "base: ../plain.yaml\nname: short\noptimise: {epochs: 2}"
    )
    path = tmp_path / "recipes" / "shorter.yaml"
    path.write_text("base: short.yaml\nname: shorter\nmixup: null\noptimise: {epochs: 1}\n")
    plain = read_recipe(tmp_path / "plain.yaml")
    assert read_recipe(path) == override(plain, {"name": "shorter", "mixup": None, "optimise.epochs": 1})
    write_recipe(read_recipe(path), tmp_path / "saved.yaml")
    assert "base" not in yaml.safe_load((tmp_path / "saved.yaml").read_text()), "a saved recipe is whole"

    (tmp_path / "trial.yaml").write_text("base: plain.yaml\nname: t\nvariants: {a: {mixup: null}}")
    path.write_text("base: ../trial.yaml\nname: u\nvariants: {b: {optimise.epochs: 3}}")
    assert list(read_variants(path)) == [BASELINE, "a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "{folder}/derived.yaml: no such file"),
        ("a: [", "derived.yaml is not valid YAML"),
        ("- 1", "found [1]"),
        ("", "found None"),
        ("base: absent.yaml", "absent.yaml: no such file"),
        ("base: [plain.yaml]", "expected the path of a recipe"),
        ("base: derived.yaml", "base derived.yaml leads back to derived.yaml"),
        ("base: circle.yaml", "circle.yaml: base derived.yaml leads back to derived.yaml"),
        ("base: list.yaml", "list.yaml holds [1], expected a recipe"),
        ("base: plain.yaml", "derived.yaml on {folder}/plain.yaml: name: this key is missing"),
        ("base: plain.yaml\nname: a\nloss: {gama: 2}", "loss: the key 'gama' is unknown"),
    ],
)
def test_a_faulty_file_or_base_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "derived.yaml"
    if text is not None:
        path.write_text(text)
    (tmp_path / "plain.yaml").write_text(BASE)
    (tmp_path / "circle.yaml").write_text("base: derived.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert message.format(folder=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


LORA = {"backbone": "h-optimus-0", "weights": "hub", "train": "lora", "lora": {}}


def with_section(tmp_path: Path, section: str, content: object) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(yaml.safe_dump({"name": "base", "model": LORA, section: content}))
    return path


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    grid = {"model.lora.rank": [4, 8], "optimise.learning_rate": [1e-4, 3e-4]}
    path = with_section(tmp_path, "grid", grid)
    recipes = read_recipes(path)
    values = [(r.model.lora and r.model.lora.rank, r.optimise.learning_rate) for r in recipes]
    assert values == [(4, 1e-4), (4, 3e-4), (8, 1e-4), (8, 3e-4)]
    assert recipes[1].name == "base, model.lora.rank 4, optimise.learning_rate 0.0003"
    assert recipes[0].optimise.epochs == 20
    with pytest.raises(RecipeError, match="has the section 'grid', expected a single recipe"):
        read_recipe(path)


def test_variants_change_the_recipe_each_apart(tmp_path: Path) -> None:
    variants = {"longer": {"optimise.epochs": 30}, "no MixUp": {"mixup": None}}
    path = with_section(tmp_path, "variants", variants)
    found = read_variants(path)
    assert list(found) == [BASELINE, "longer", "no MixUp"]
    assert [(r.optimise.epochs, r.mixup) for r in found.values()] == [
        (20, "standard"), (30, "standard"), (20, None),
    ]  # fmt: skip
    assert found["longer"].name == "base: longer"
    assert read_recipes(path) == list(found.values())
    with pytest.raises(RecipeError, match="has the section 'variants', expected a single recipe"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("section", "content", "fault"),
    [
        ("variants", [1], "expected a set of changes by name"),
        ("variants", {"longer": {}}, "expected a set of changes by name"),
        ("variants", {BASELINE: {"mixup": None}}, "none named 'baseline'"),
        ("variants", {"deeper": {"swin.depth": 3}}, "swin.depth is unknown"),
        ("variants", None, "variants is None"),
        ("grid", {"optimise.rate": [1]}, "optimise.rate"),
        ("grid", {"optimise.epochs": 5}, "expected a list of values"),
        ("grid", {"optimise.epochs": []}, "expected a list of values"),
        ("grid", {"optimise.epochs": [5, 5]}, "every value of a key once"),
        ("grid", {"optimise.epochs": [5, 0]}, "optimise.epochs"),
        ("grid", {"swin.depth": [1]}, "swin.depth is unknown"),
    ],
)
def test_a_faulty_grid_or_set_of_variants_is_refused(
    tmp_path: Path, section: str, content: object, fault: str
) -> None:
    with pytest.raises(RecipeError, match=fault):
        read_recipes(with_section(tmp_path, section, content))
