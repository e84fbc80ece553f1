"""Exported = adapted: from a recipe over real patches to the platform's answer."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from amf.data.figures import Figures, open_figures
from amf.errors import DataError
from amf.experiments.card import CARD, model_card
from amf.experiments.export import export, trained_classifier
from amf.inference.predict import Predictor, score
from amf.model import bundle
from amf.training.learner import ADAPTER, BEST
from amf.training.loop import fit
from amf.training.recipe import Recipe, override, read_recipe, write_recipe
from test.support.drawn import pack_figures
from test.support.small import FAMILIES, adapted_recipe, compact_recipe, publish

DECISION = {
    "name": "small", "temperature": 1.5, "bias": -0.5, "threshold": 0.4, "fitted_on": "nothing", "record": {},
}  # fmt: skip


def trained(recipe: Recipe, figures: Figures, folder: Path) -> Path:
    half = len(figures.label) * 3 // 4
    fit(recipe, figures, np.arange(half), np.arange(half, len(figures.label)), folder)
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    folder = tmp_path_factory.mktemp("drawn")
    pack_figures(folder, figures=48)
    return open_figures(folder)


def adapted_logits(run: Path, patches: np.ndarray) -> np.ndarray:
    """By the network with its adapters still apart."""
    recipe, classifier = trained_classifier(run)
    batches = [torch.from_numpy(patches)]
    return score(classifier, batches, recipe.model.image, recipe.model.views, torch.float32).numpy()


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_exported_bundle_gives_the_adapted_models_logits(
    backbone: str, drawn: Figures, tmp_path: Path
) -> None:
    recipe = adapted_recipe(
        publish(tmp_path / "weights.safetensors", backbone),
        backbone,
        optimise={"epochs": 2, "batch": 12, "learning_rate": 0.05},
    )
    run = trained(recipe, drawn, tmp_path / "run")
    patches = np.array(drawn.patches[:24])
    expected = adapted_logits(run, patches)

    export([run], tmp_path / "model", **DECISION)
    actual = Predictor(bundle.load(tmp_path / "model"), "cpu").logits(patches)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)  # the merged sums round differently

    # without what the adapters learnt it is another network
    _, classifier = trained_classifier(run)
    with classifier.backbone.model.disable_adapter():
        base = score(classifier, [torch.from_numpy(patches)], recipe.model.image, 1, torch.float32).numpy()
    assert np.abs(base - expected).max() > 0.05
    spec, tensors = bundle.read_spec(tmp_path / "model"), (tmp_path / "model").iterdir()
    assert spec.members[0].image == recipe.model.image
    assert {path.name for path in tensors} == {"bundle.json", spec.members[0].weights, CARD}
    assert (run / ADAPTER / "adapter_model.safetensors").is_file()


@pytest.fixture(scope="module")
def runs(drawn: Figures, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two compact runs of eight views."""
    folder, changes = tmp_path_factory.mktemp("runs"), {"optimise.epochs": 2, "model.views": 8}
    recipes = [override(compact_recipe(), {**changes, "optimise.seed": seed}) for seed in (0, 1)]
    return [trained(recipe, drawn, folder / str(recipe.optimise.seed)) for recipe in recipes]


@pytest.mark.parametrize(("storage", "tolerance"), [("float32", 1e-4), ("float16", 0.02), ("bfloat16", 0.2)])
def test_a_bundle_of_two_compact_runs_averages_them_in_its_storage_type(
    drawn: Figures, runs: list[Path], tmp_path: Path, storage: str, tolerance: float
) -> None:
    stored = []
    for run in runs:
        stored.append(shutil.copytree(run, tmp_path / run.name))
        recipe = read_recipe(stored[-1] / "recipe.yaml")
        write_recipe(override(recipe, {"model.storage": storage}), stored[-1] / "recipe.yaml")
    patches = np.array(drawn.patches[:8])
    expected = np.mean([adapted_logits(run, patches) for run in stored], axis=0)
    spec = export(stored, tmp_path / "model", **DECISION)
    assert [member.dtype for member in spec.members] == [storage, storage]
    actual = Predictor(bundle.load(tmp_path / "model"), "cpu").logits(patches)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def test_provenance_and_card_say_what_was_handed_over(
    drawn: Figures, runs: list[Path], tmp_path: Path, make_bundle: Callable[..., Path]
) -> None:
    record = {
        "summary": "A network drawn for a test.",
        "data": {"trained on": "36 drawn figures"},
        "metrics": {"drawn": {"figures": 12, "AUC": 0.8125}},
        "made_with": {"table": drawn.table_hash},
    }
    export(runs, tmp_path / "model", **{**DECISION, "record": record})
    provenance = bundle.read_spec(tmp_path / "model").provenance
    assert provenance["made_with"]["table"] == drawn.table_hash
    assert provenance["made_with"]["torch"] == torch.__version__
    card = (tmp_path / "model" / CARD).read_text()
    for text in (
        "A network drawn for a test.",
        "36 drawn figures",
        "0.812",
        "not a medical device",
        "temperature 1.5000 and bias -0.5000;\natypical from threshold 0.4000 on.",
    ):
        assert text in card
    assert "Nothing yet." in model_card(bundle.read_spec(make_bundle()))


def test_a_run_without_weights_or_with_anothers_is_refused(runs: list[Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[0], tmp_path / "run")
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("hidden: 8", "hidden: 9"))
    with pytest.raises(DataError, match="does not hold the weights of the network that"):
        trained_classifier(run)
    (run / BEST).unlink()
    with pytest.raises(DataError, match="is not there: the run has not finished an epoch"):
        export([run], tmp_path / "model", **DECISION)
    assert not (tmp_path / "model").exists()
