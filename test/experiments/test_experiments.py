"""LODO, grids, ablation and the final model on drawn figures, from the command line to a scored stack."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from accelerate.state import AcceleratorState, PartialState
from numpy.typing import NDArray

from amf.cli import main
from amf.data.figures import PATCHES, TABLE, open_figures
from amf.data.packed import pack
from amf.data.splits import leave_one_domain_out
from amf.data.table import read_table, write_table
from amf.errors import DataError
from amf.experiments import ablation, lodo, paper
from amf.experiments.calibration import Calibration, calibrate, calibrate_bundle, fit_scale_and_bias
from amf.experiments.folds import best_epoch, read_fold, run_fold, slug
from amf.inference import job
from amf.model.bundle import load, read_spec, write_spec
from amf.model.digest import file_digest
from amf.model.preprocess import ImageSpec
from amf.training.learner import remove_checkpoints
from amf.training.recipe import override, read_recipe
from test.support.drawn import draw_patches, drawn_table

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "backbone": "compact",
        "arguments": {"widths": [4, 8], "blocks": [1, 1]},
        "weights": "random",
        "train": "all",
        "hidden": 8,
        "dropout": 0,
        "field_of_view_px": 32,
        "input_px": 32,
    },
    "augmentation": "none",
    "mixup": None,
    "loss": {"contrastive": 0},
    "sampling": {"hard_mining": False},
    "optimise": {"epochs": 2, "batch": 32, "learning_rate": 1e-3, "precision": "float32", "monitor": "auc"},
}
FOLDS = ("domain-0", "domain-1", "domain-2")


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `amf data` leaves: 120 drawn figures in three domains."""
    folder = tmp_path_factory.mktemp("data")
    table = drawn_table(120, domains=3)
    draw_patches(table, folder / "images")
    pack(table, folder / "images", folder / PATCHES)
    write_table(table, folder / TABLE)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(RECIPE, tmp_path_factory.mktemp("recipe") / "tiny.yaml")


@pytest.fixture(scope="module")
def finished(data: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LODO run, joined."""
    AcceleratorState._reset_state(reset_partial_state=True)
    out = tmp_path_factory.mktemp("lodo")
    assert main(["lodo", str(recipe), "--data", str(data), "--out", str(out)]) == 0
    return out


def written(content: object, path: Path) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def test_lodo_predicts_every_figure_once_by_a_network_without_its_domain(data: Path, finished: Path) -> None:
    predictions, table = pd.read_csv(finished / "out-of-fold.csv"), open_figures(data).table
    assert sorted(predictions["image"]) == sorted(table["image"])
    assert (predictions["fold"] == predictions["domain"]).all()
    for folder, domain in zip(FOLDS, ("domain 0", "domain 1", "domain 2"), strict=True):
        fold = pd.read_csv(finished / folder / "predictions.csv")
        assert set(fold["domain"]) == {domain}
        assert set(fold["image"]) == set(table["image"][table["domain"] == domain])


def test_the_summary_holds_a_naive_count(finished: Path) -> None:
    predictions = pd.read_csv(finished / "out-of-fold.csv")
    summary = pd.read_csv(finished / "summary.csv", index_col="domain")
    accuracies = []
    for domain, figures in predictions.groupby("domain"):
        amf, nmf = figures[figures["label"] == 1], figures[figures["label"] == 0]
        amf_recall = sum(logit >= 0 for logit in amf["logit"]) / len(amf)
        nmf_recall = sum(logit < 0 for logit in nmf["logit"]) / len(nmf)
        pairs = [(a > n) + 0.5 * (a == n) for a in amf["logit"] for n in nmf["logit"]]
        accuracies.append((amf_recall + nmf_recall) / 2)
        row = summary.loc[domain]
        assert (row["n"], row["AMF"]) == (len(figures), len(amf))
        assert row["BA at 0.5"] == pytest.approx(accuracies[-1])
        assert row["AMF recall at 0.5"] == pytest.approx(amf_recall)
        assert row["NMF recall at 0.5"] == pytest.approx(nmf_recall)
        assert row["AUC"] == pytest.approx(np.mean(pairs))
    assert summary.loc["mean", "BA at 0.5"] == pytest.approx(sum(accuracies) / 3)
    assert summary.loc["std", "BA at 0.5"] == pytest.approx(np.std(accuracies, ddof=1))
    groups = pd.read_csv(finished / "summary-groups.csv", index_col="group")
    assert groups["n"].to_dict() == {"species: not published": 120, "tumour: not published": 120}
    text = (finished / "summary.md").read_text()
    assert "| species: not published | 3 | 120 |" in text
    assert "0.851 ± 0.037" in text
    assert f"BA {summary.loc['mean', 'BA at 0.5']:.3f} ± {summary.loc['std', 'BA at 0.5']:.3f}" in text
    assert (finished / "summary.png").stat().st_size > 10_000


def test_the_horizon_is_the_median_best_epoch(data: Path, finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text())
    best = []
    for folder in FOLDS:
        history = json.loads((finished / folder / "history.json").read_text())
        best.append(1 + max(range(len(history)), key=lambda epoch: history[epoch]["auc"]))
    (member,) = record["members"]
    assert list(member["best_epochs"].values()) == best
    assert member["horizon"] == sorted(best)[1]
    assert record["table_hash"] == open_figures(data).table_hash
    assert member["recipe"]["optimise"]["seed"] == 0


def test_the_best_epoch_follows_the_recipes_monitor(recipe: Path, tmp_path: Path) -> None:
    history = [
        {"loss": 0.5, "auc": 0.7},
        {"loss": 0.3, "auc": 0.6},
        {"loss": 0.4, "auc": 0.8},
        {"loss": 0.5, "auc": 0.7},
    ]
    (tmp_path / "history.json").write_text(json.dumps(history))
    by_auc = read_recipe(recipe)
    assert best_epoch(by_auc, tmp_path) == 3
    assert best_epoch(override(by_auc, {"optimise.monitor": "loss"}), tmp_path) == 2
    assert best_epoch(override(by_auc, {"optimise.monitor": "last"}), tmp_path) == 4


def test_folds_alone_and_resumed_give_the_same_predictions(
    data: Path, recipe: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["lodo", str(recipe), "--data", str(data), "--out", str(tmp_path)]
    assert main([*command, "--fold", "1"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [FOLDS[1]]
    assert main([*command, "--collect"]) == 2
    assert "lacks 2 of 3 folds (domain-0, domain-2)" in capsys.readouterr().err

    # Broken off between training and scoring: the fold is scored from its checkpoint, not trained again.
    predictions = tmp_path / FOLDS[1] / "predictions.csv"
    before = predictions.read_bytes()
    predictions.unlink()
    assert main(command) == 0
    assert capsys.readouterr().out.count("epoch 1/2") == 2
    assert predictions.read_bytes() == before
    assert (tmp_path / "out-of-fold.csv").read_bytes() == (finished / "out-of-fold.csv").read_bytes()


def test_a_folder_of_another_recipe_is_refused(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written({**RECIPE, "augmentation": "medium"}, tmp_path / "other.yaml")
    for flags in ([], ["--collect"]):
        assert main(["lodo", str(other), "--data", str(data), "--out", str(finished), *flags]) == 2
        assert "another recipe than tiny" in capsys.readouterr().err


def test_a_fold_that_does_not_exist_is_refused(
    data: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lodo", str(recipe), "--data", str(data), "--out", str(tmp_path), "--fold", "3"]) == 2
    assert "expected 0 to 2" in capsys.readouterr().err


def test_a_grid_runs_each_combination_and_ranks_them(data: Path, tmp_path: Path) -> None:
    grid = {**RECIPE, "grid": {"optimise.learning_rate": [1e-3, 1e-2]}}
    path, out = written(grid, tmp_path / "grid.yaml"), tmp_path / "out"
    command = ["lodo", str(path), "--data", str(data), "--out", str(out)]
    for fold in range(6):
        assert main([*command, "--fold", str(fold)]) == 0
    assert main([*command, "--collect"]) == 0
    ranking = pd.read_csv(out / "ranking.csv", index_col="combination")
    assert sorted(ranking.index) == [
        "tiny-optimise.learning-rate-0.001",
        "tiny-optimise.learning-rate-0.01",
    ]
    assert ranking["BA fitted: mean"].is_monotonic_decreasing
    for name, row in ranking.iterrows():
        summary = pd.read_csv(out / str(name) / "summary.csv", index_col="domain")
        assert row["BA fitted: mean"] == pytest.approx(summary.loc["mean", "BA fitted"])
        rate = float(str(name).rpartition("-")[2])
        assert read_recipe(out / str(name) / "recipe.yaml").optimise.learning_rate == rate
    assert "| combination |" in (out / "ranking.md").read_text()


def test_ablation_cells_are_run_skipped_and_joined(
    data: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, figures, cells = read_recipe(recipe), open_figures(data), ["baseline", "mixup_strong"]
    trial = ablation.ablation_trial(plan, cells, folds=2)
    trial.run(figures, tmp_path, cells)
    folders = [tmp_path / slug(cell) / f"fold-{fold}-of-2" for cell in cells for fold in (1, 2)]
    assert all((folder / "predictions.csv").is_file() for folder in folders)
    assert not list(tmp_path.rglob("checkpoint*"))
    assert read_recipe(folders[0] / "recipe.yaml").mixup is None
    assert read_recipe(folders[2] / "recipe.yaml").mixup == "strong"
    assert {read_recipe(folder / "recipe.yaml").optimise.seed for folder in folders} == {0}

    capsys.readouterr()
    trial.run(figures, tmp_path, cells, fold=1)
    assert "epoch" not in capsys.readouterr().out, "finished folds are not trained again"

    table = ablation.collect_ablation(trial, figures, tmp_path)
    recalls = {}
    for cell in cells:
        folds = [
            pd.read_csv(tmp_path / slug(cell) / f"fold-{fold}-of-2" / "predictions.csv") for fold in (1, 2)
        ]
        recalls[cell] = [np.mean(fold["logit"][fold["label"] == 1] >= 0) for fold in folds]
    assert table.loc["baseline", "AMF recall"] == pytest.approx(np.mean(recalls["baseline"]))
    difference = np.mean(recalls["mixup_strong"]) - np.mean(recalls["baseline"])
    assert table.loc["mixup_strong", "AMF recall"] == pytest.approx(difference)
    assert table.loc["mixup_strong", "AMF recall std"] == pytest.approx(
        np.std(recalls["mixup_strong"], ddof=1)
    )
    text = (tmp_path / "ablation.md").read_text()
    assert "+0.015 ± 0.024" in text, "the paper's number stands beside ours"
    assert (tmp_path / "ablation.png").stat().st_size > 10_000


def test_ablation_from_the_command_line_runs_one_cell(data: Path, recipe: Path, tmp_path: Path) -> None:
    command = ["ablate", str(recipe), "--data", str(data), "--out", str(tmp_path)]
    assert main([*command, "--cell", "rass", "--fold", "4"]) == 0
    assert [path.name for path in (tmp_path / "rass").iterdir()] == ["fold-5-of-5"]
    assert read_recipe(tmp_path / "rass" / "fold-5-of-5" / "recipe.yaml").augmentation == "rass"
    assert main([*command, "--collect"]) == 2


def test_the_table_has_the_papers_rows() -> None:
    assert list(ablation.CELLS) == list(paper.TABLE_1)
    assert len(ablation.CELLS) == 13
    # The discussion gives the best pipeline's accuracy as an absolute: 0.659 ± 0.024.
    best = paper.TABLE_1["medium"][0]
    assert paper.TABLE_1["baseline"][0][0] + best[0] == pytest.approx(0.659)
    assert best[1] == 0.024


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("recipes/ablation*.yaml")))
def test_the_ablation_recipes_differ_in_backbone_alone(path: Path) -> None:
    plan = read_recipe(path)
    assert (plan.augmentation, plan.mixup, plan.optimise.epochs) == ("none", None, 5)
    assert (plan.loss.labels, plan.loss.gamma, plan.loss.adaptive_weight) == ("hard", 0, True)
    for cell, variant in ablation.ablation_trial(plan).variants.items():
        assert (variant.augmentation, variant.mixup) == ablation.CELLS[cell]


def test_a_trial_sets_changed_recipes_beside_the_recipe(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"twice the rate": {"optimise.learning_rate": 2e-3}, "the same": {"mixup_share": 0.5}}
    path, out = written({**RECIPE, "variants": variants}, tmp_path / "trial.yaml"), tmp_path / "out"
    command = ["trial", str(path), "--data", str(data), "--out", str(out)]
    assert main([*command, "--variant", "twice the rate", "--fold", "1"]) == 0
    assert [p.name for p in (out / "twice-the-rate").iterdir()] == ["fold-2-of-3"]
    assert main([*command, "--collect"]) == 2
    assert main(command) == 0
    runs = {p.parent.name: read_recipe(p / "recipe.yaml") for p in out.glob("*/fold-3-of-3")}
    assert {name: run.optimise.learning_rate for name, run in runs.items()} == {
        "baseline": 1e-3,
        "twice-the-rate": 2e-3,
        "the-same": 1e-3,
    }
    assert {run.optimise.seed for run in runs.values()} == {2}, "the seed is the fold's"
    text = capsys.readouterr().out
    # The share of mixed batches is nothing to a recipe without MixUp: the pairs are truly paired.
    assert "| the same | +0.0000 ± 0.0000 | +0.0000 ± 0.0000 | 0 of 3 |" in text
    folds = pd.read_csv(out / "trial-folds.csv").pivot(index="fold", columns="variant", values="AUC")
    gain = folds["twice the rate"] - folds["baseline"]
    assert f"| twice the rate | {gain.mean():+.4f} ± {gain.std():.4f} |" in text

    assert main([*command, "--variant", "thrice"]) == 2
    assert "'thrice' is no row, expected one of baseline, the same, twice the rate" in capsys.readouterr().err


def test_another_seed_is_the_recipe_but_for_it(data: Path, recipe: Path, tmp_path: Path) -> None:
    command = ["lodo", str(recipe), "--data", str(data), "--out", str(tmp_path), "--fold", "0"]
    assert main([*command, "--seed", "5"]) == 0
    (folder,) = tmp_path.iterdir()
    assert read_recipe(folder / "recipe.yaml") == override(read_recipe(recipe), {"optimise.seed": 5})


@pytest.fixture(scope="module")
def ensemble_runs(data: Path, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LODO run of an ensemble: two recipes, two seeds, joined."""
    AcceleratorState._reset_state(reset_partial_state=True)
    out = tmp_path_factory.mktemp("ensemble")
    wide = written({**RECIPE, "name": "wide", "model": {**RECIPE["model"], "hidden": 16}}, out / "wide.yaml")
    command = ["lodo", str(recipe), str(wide), "--seeds", "0", "1", "--data", str(data), "--out", str(out)]
    for fold in range(12):
        assert main([*command, "--fold", str(fold)]) == 0
    assert not (out / "out-of-fold.csv").exists()
    assert main([*command, "--collect"]) == 0
    return out


MEMBERS = ("tiny-seed-0", "tiny-seed-1", "wide-seed-0", "wide-seed-1")


def test_an_ensembles_logits_are_the_mean_of_its_members(ensemble_runs: Path, finished: Path) -> None:
    frames = [pd.read_csv(ensemble_runs / name / "out-of-fold.csv") for name in MEMBERS]
    joined = pd.read_csv(ensemble_runs / "out-of-fold.csv")
    np.testing.assert_allclose(joined["logit"], np.mean([f["logit"] for f in frames], axis=0), atol=1e-12)
    assert np.std([f["logit"] for f in frames], axis=0).min() > 0, "the members differ"
    assert (ensemble_runs / MEMBERS[0] / "out-of-fold.csv").read_bytes() == (
        finished / "out-of-fold.csv"
    ).read_bytes(), "a member is trained as it would be alone"
    read = lodo.read_lodo([ensemble_runs])
    assert [lodo.member_name(member.recipe) for member in read.members] == [
        "tiny, seed 0", "tiny, seed 1", "wide, seed 0", "wide, seed 1",
    ]  # fmt: skip
    apart = lodo.read_lodo([ensemble_runs / name for name in MEMBERS])
    np.testing.assert_allclose(apart.predictions["logit"], joined["logit"], atol=1e-12)
    unequal = lodo.read_lodo([ensemble_runs / MEMBERS[0]])
    three = lodo.read_lodo([ensemble_runs / name for name in MEMBERS[1:]])
    weighted = lodo.average_runs([unequal, three])
    np.testing.assert_allclose(weighted.predictions["logit"], joined["logit"], atol=1e-12)
    assert "the logits of 4 members averaged" in (ensemble_runs / "summary.md").read_text()


def test_the_horizon_is_a_recipes_own_over_all_its_seeds(recipe: Path) -> None:
    plan = read_recipe(recipe)
    other = override(plan, {"name": "other"})
    epochs = [(plan, 0, [1, 2, 9]), (plan, 1, [3, 4, 5]), (other, 0, [20, 30, 40])]
    members = tuple(
        lodo.Member(lodo.with_seed(of, seed), dict(zip("abc", found, strict=True)))
        for of, seed, found in epochs
    )
    run = lodo.Lodo(members, pd.DataFrame(), "hash")
    assert run.horizon(plan) == run.horizon(lodo.with_seed(plan, 1)) == 4
    assert run.horizon(other) == 30


@pytest.mark.parametrize("flags", [["--seeds", "0", "0"], ["--seeds", "3", "--data"]])
def test_a_member_twice_or_a_grid_in_an_ensemble_is_refused(
    data: Path, recipe: Path, tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    grid = written({**RECIPE, "grid": {"optimise.learning_rate": [1e-3, 1e-2]}}, tmp_path / "grid.yaml")
    command = ["lodo", "--out", str(tmp_path / "out"), "--data", str(data)]
    if flags[-1] == "0":
        assert main([*command, str(recipe), *flags]) == 2
        assert "expected each recipe's name and seed once" in capsys.readouterr().err
    else:
        assert main([*command, str(recipe), str(grid)]) == 2
        assert "expected none with a grid" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_final_is_one_command_from_table_to_a_bundle_that_scores_a_stack(
    data: Path,
    recipe: Path,
    finished: Path,
    tmp_path: Path,
    make_job: Callable[..., Path],
    pages: NDArray[np.uint8],
) -> None:
    out = tmp_path / "final"
    command = ["final", str(recipe), "--data", str(data), "--out", str(out)]
    assert main([*command, "--seeds", "0", "1"]) == 0

    run = lodo.read_lodo([out / "lodo"])
    horizon = run.horizon(read_recipe(recipe))
    for seed in (0, 1):
        folder = out / f"tiny-seed-{seed}"
        assert len(json.loads((folder / "history.json").read_text())) == horizon
        assert read_recipe(folder / "recipe.yaml").optimise.seed == seed
    bundle = load(out / "bundle")
    assert len(bundle.members) == 2
    # What ships is calibrated: both members' logits, averaged, not one member's.
    both = pd.read_csv(out / "lodo" / "out-of-fold.csv")
    np.testing.assert_allclose(
        (bundle.spec.temperature, bundle.spec.bias),
        fit_scale_and_bias(both["logit"], both["label"]),
        rtol=1e-6,
    )
    alone = pd.read_csv(finished / "out-of-fold.csv")
    assert bundle.spec.bias != pytest.approx(fit_scale_and_bias(alone["logit"], alone["label"])[1], rel=1e-3)
    calibration = json.loads((out / "calibration.json").read_text())
    assert bundle.spec.threshold == calibration["threshold"]
    assert "120 out-of-fold figures" in bundle.spec.fitted_on
    assert "tiny, seed 0; tiny, seed 1" in bundle.spec.fitted_on
    summary = pd.read_csv(out / "lodo" / "summary.csv", index_col="domain")
    metrics = bundle.spec.provenance["metrics"]
    assert metrics["domain 1, held out"]["BA"] == pytest.approx(summary.loc["domain 1", "BA fitted"])
    assert metrics["mean over domains"]["AUC"] == pytest.approx(summary.loc["mean", "AUC"])
    assert [member["optimise"]["seed"] for member in bundle.spec.provenance["members"]] == [0, 1]
    card = (out / "bundle" / "MODEL_CARD.md").read_text()
    assert open_figures(data).table_hash in card
    assert "domain 1, held out" in card

    output = tmp_path / "output"
    output.mkdir()
    assert len(job.run(make_job(pages), output, out / "bundle", "cpu")) == len(pages)

    # Calibrated anew from the same LODO run, the bundle is what it was.
    again = ["calibrate", "--lodo", str(out / "lodo"), "--out", str(tmp_path / "again")]
    assert main([*again, "--bundle", str(out / "bundle")]) == 0
    assert load(out / "bundle").spec.bias == bundle.spec.bias


def test_final_trains_each_recipe_to_its_own_horizon(
    data: Path, recipe: Path, ensemble_runs: Path, tmp_path: Path
) -> None:
    record = json.loads((ensemble_runs / "record.json").read_text())
    changed = tmp_path / "lodo"
    shutil.copytree(ensemble_runs, changed)
    for member in record["members"]:
        longer = {"domain 0": 1, "domain 1": 1, "domain 2": 1}
        if member["recipe"]["name"] == "wide":
            longer = {"domain 0": 1, "domain 1": 3, "domain 2": 9}
        member["best_epochs"] = longer
    (changed / "record.json").write_text(json.dumps(record))
    command = [
        "final",
        str(recipe),
        str(ensemble_runs / "wide.yaml"),
        "--seeds",
        "1",
        "0",
        "--data",
        str(data),
    ]
    out = tmp_path / "out"
    assert main([*command, "--lodo", str(changed), "--out", str(out)]) == 0
    lengths = {name: len(json.loads((out / name / "history.json").read_text())) for name in MEMBERS}
    assert lengths == {"tiny-seed-0": 1, "tiny-seed-1": 1, "wide-seed-0": 3, "wide-seed-1": 3}
    assert len(read_spec(out / "bundle").members) == 4
    assert not (out / "lodo").exists()


@pytest.mark.parametrize(
    ("change", "seeds"),
    [({"augmentation": "medium"}, []), ({}, ["--seeds", "0", "1", "2"]), ({}, ["--seeds", "5"])],
)
def test_final_refuses_a_lodo_run_of_other_members(
    data: Path,
    finished: Path,
    tmp_path: Path,
    change: dict[str, object],
    seeds: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = written({**RECIPE, **change}, tmp_path / "other.yaml")
    command = [
        "final",
        str(other),
        "--data",
        str(data),
        "--out",
        str(tmp_path / "out"),
        "--lodo",
        str(finished),
    ]
    assert main([*command, *seeds]) == 2
    assert "the LODO run is of other members (tiny, seed 0) than the bundle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def calibration(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate(lodo.read_lodo([finished]), tmp_path_factory.mktemp("calibration"))


@pytest.fixture
def sealed(data: Path, finished: Path, make_bundle: Callable[..., Path]) -> Callable[..., Path]:
    """A bundle as `amf final` would make it of the finished run's member, but for the given differences."""
    (member,) = lodo.read_lodo([finished]).members

    def make(name: str, changes: dict[str, object] | None = None, table: str = "", **spec: Any) -> Path:
        shape: dict[str, Any] = {
            "arguments": RECIPE["model"]["arguments"],
            "image": member.recipe.model.image,
            **spec,
        }
        folder = make_bundle(name, **shape, threshold=0.9, temperature=3.0)
        recipe = override(member.recipe, changes or {}).model_dump(mode="json")
        provenance = {"members": [recipe], "data": {"table": table or open_figures(data).table_hash}}
        write_spec(folder, dataclasses.replace(read_spec(folder), provenance=provenance))
        return folder

    return make


def test_calibrate_writes_into_a_bundle_of_the_same_network(
    finished: Path, tmp_path: Path, sealed: Callable[..., Path]
) -> None:
    bundle = sealed("same")
    command = ["calibrate", "--lodo", str(finished), "--out", str(tmp_path / "calibration")]
    assert main([*command, "--bundle", str(bundle)]) == 0
    calibration = json.loads((tmp_path / "calibration" / "calibration.json").read_text())
    spec = read_spec(bundle)
    for value in ("temperature", "bias", "threshold", "fitted_on"):
        assert getattr(spec, value) == calibration[value]
    assert spec.provenance["calibration"]["table_hash"] == calibration["table_hash"]
    assert calibration["fitted_on"] in (bundle / "MODEL_CARD.md").read_text()
    load(bundle)


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ({"views": 8}, "has a member with views 8"),
        ({"arguments": {"widths": [8, 16], "blocks": [1, 1]}}, "has a member with arguments"),
        (
            {"image": ImageSpec(64, 32, "bilinear", (0.72, 0.55, 0.7), (0.18, 0.21, 0.16))},
            "member with image",
        ),
        ({"hidden": 9}, "has a member with head HeadSpec(hidden=9"),
        ({"dtype": "bfloat16"}, "has a member with dtype bfloat16"),
        ({"changes": {"model.weights": "other.safetensors"}}, "is of other recipes"),
        ({"changes": {"optimise.seed": 1}}, "is of other recipes (tiny, seed 1) than the predictions"),
        ({"changes": {"augmentation": "medium"}}, "is of other recipes"),
        ({"table": "f" * 64}, "was trained on the table ffffffffffff"),
        ({"members": 2}, "has 2 members and the recipes of 1"),
    ],
)
def test_calibrate_refuses_a_bundle_of_another_network(
    calibration: Calibration, sealed: Callable[..., Path], bundle: dict[str, Any], message: str
) -> None:
    folder = sealed("other", **bundle)
    with pytest.raises(DataError, match=re.escape(message)):
        calibrate_bundle(calibration, folder)
    assert read_spec(folder).threshold == 0.9


def test_calibrate_refuses_a_bundle_that_does_not_say_how_it_was_trained(
    calibration: Calibration, make_bundle: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match="was trained on the table None"):
        calibrate_bundle(calibration, make_bundle())


def edited_table(data: Path, folder: Path, column: str) -> Path:
    """The data with other values in one column; labels, images and domains are the same."""
    table = read_table(data / TABLE)
    if column == "tumor":
        table["tumor"] = "another tumour"
    else:
        table["slide"] = table["slide"].replace({"drawn/0": "drawn/3", "drawn/3": "drawn/0"})
    shutil.copytree(data, folder)
    write_table(table, folder / TABLE)
    pack(table, folder / "images", folder / PATCHES)
    return folder


@pytest.mark.parametrize("column", ["tumor", "slide"])
@pytest.mark.parametrize("command", ["lodo", "ablate", "trial"])
def test_finished_folds_of_another_table_are_refused(
    data: Path, tmp_path: Path, column: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"variants": {"same": {"mixup_share": 0.5}}} if command == "trial" else {}
    path = written({**RECIPE, **variants}, tmp_path / "recipe.yaml")
    one = {"lodo": [], "ablate": ["--cell", "baseline"], "trial": ["--variant", "baseline"]}[command]
    run = [command, str(path), "--out", str(tmp_path / "out"), "--fold", "0", *one, "--data"]
    assert main([*run, str(data)]) == 0
    assert main([*run, str(data)]) == 0
    assert main([*run, str(edited_table(data, tmp_path / "edited", column))]) == 2
    assert re.search(r"holds a fold of another (table|split or training side)", capsys.readouterr().err)


def test_a_finished_fold_of_another_training_side_is_refused(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    figures, plan = open_figures(data), read_recipe(recipe)
    first, *_ = leave_one_domain_out(figures.table)
    run_fold(plan, figures, first, tmp_path)
    smaller = dataclasses.replace(first, train=first.train[:-5])
    with pytest.raises(DataError, match="holds a fold of another split or training side"):
        read_fold(plan, figures, smaller, tmp_path)
    (tmp_path / "predictions.csv").write_text((tmp_path / "predictions.csv").read_text() + "\n")
    with pytest.raises(DataError, match="changed since the fold was finished"):
        read_fold(plan, figures, first, tmp_path)


def test_a_fold_that_nothing_vouches_for_is_neither_taken_nor_overwritten(
    data: Path, recipe: Path, tmp_path: Path
) -> None:
    """As folds were left before they had a record, and without the checkpoint that could tell."""
    figures, plan = open_figures(data), read_recipe(recipe)
    first, *_ = leave_one_domain_out(figures.table)
    run_fold(plan, figures, first, tmp_path)
    (tmp_path / "fold.json").unlink()
    before = (tmp_path / "predictions.csv").read_bytes()
    run_fold(plan, figures, first, tmp_path)  # the checkpoint tells, and the fold is scored again
    assert (tmp_path / "predictions.csv").read_bytes() == before
    (tmp_path / "fold.json").unlink()
    remove_checkpoints(tmp_path)
    with pytest.raises(DataError, match=r"holds predictions without fold\.json or a checkpoint"):
        run_fold(plan, figures, first, tmp_path)


def test_predictions_that_are_not_the_records_are_refused(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "out-of-fold.csv"
    pd.read_csv(path).assign(logit=0.0).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"out-of-fold.csv is not what .*record.json is of"):
        lodo.read_lodo([tmp_path / "run"])


def test_two_runs_are_compared_on_the_command_line(finished: Path, tmp_path: Path) -> None:
    b = tmp_path / "b"
    shutil.copytree(finished, b)
    predictions = pd.read_csv(finished / "out-of-fold.csv")
    perfect = predictions.assign(logit=np.where(predictions["label"] == 1, 2.0, -2.0))
    perfect.sample(frac=1, random_state=0).to_csv(b / "out-of-fold.csv", index=False)
    record = json.loads((b / "record.json").read_text())
    record["out_of_fold"] = file_digest(b / "out-of-fold.csv")
    (b / "record.json").write_text(json.dumps(record))
    assert main(["lodo", "--compare", str(finished), str(b), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "comparison.md").read_text()
    assert f"A = {finished.name}, B = b." in text
    assert "B better in 3 of 3" in text
    assert main(["lodo", "--out", str(tmp_path)]) == 2
