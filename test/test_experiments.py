"""LODO, grids, ablation and the final model on drawn figures, from the command line to a scored stack."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from accelerate.state import AcceleratorState, PartialState
from numpy.typing import NDArray

from amf.cli import main
from amf.data.figures import PATCHES, TABLE, open_figures
from amf.data.packed import pack
from amf.data.table import write_table
from amf.experiments import ablation, lodo, paper
from amf.experiments.folds import best_epoch
from amf.inference import job
from amf.model.bundle import load, read_spec
from amf.training.recipe import override, read_recipe

from .drawn import draw_patches, drawn_table

RECIPE = {
    "name": "tiny",
    "model": {
        "backbone": "compact",
        "arguments": {"widths": [4, 8], "blocks": [1, 1]},
        "weights": "random",
        "train": "all",
        "hidden": 8,
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
    text = (finished / "summary.md").read_text()
    assert "0.851 ± 0.037" in text
    assert f"BA {summary.loc['mean', 'BA at 0.5']:.3f} ± {summary.loc['std', 'BA at 0.5']:.3f}" in text
    assert (finished / "summary.png").stat().st_size > 10_000


def test_the_horizon_is_the_median_best_epoch(data: Path, finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text())
    best = []
    for folder in FOLDS:
        history = json.loads((finished / folder / "history.json").read_text())
        best.append(1 + max(range(len(history)), key=lambda epoch: history[epoch]["auc"]))
    assert list(record["best_epochs"].values()) == best
    assert record["horizon"] == sorted(best)[1]
    assert record["table_hash"] == open_figures(data).table_hash
    assert record["recipe"]["optimise"]["seed"] == 0


def test_the_best_epoch_follows_the_recipes_monitor(recipe: Path, tmp_path: Path) -> None:
    history = [{"loss": 0.5, "auc": 0.7}, {"loss": 0.3, "auc": 0.6}, {"loss": 0.4, "auc": 0.8}]
    (tmp_path / "history.json").write_text(json.dumps(history))
    by_auc = read_recipe(recipe)
    assert best_epoch(by_auc, tmp_path) == 3
    assert best_epoch(override(by_auc, {"optimise.monitor": "loss"}), tmp_path) == 2


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
    ablation.run_ablation(plan, figures, tmp_path, cells, folds=2)
    folders = [tmp_path / cell / f"fold-{fold}-of-2" for cell in cells for fold in (1, 2)]
    assert all((folder / "predictions.csv").is_file() for folder in folders)
    assert not list(tmp_path.rglob("checkpoint*"))
    assert read_recipe(folders[0] / "recipe.yaml").mixup is None
    assert read_recipe(folders[2] / "recipe.yaml").mixup == "strong"

    capsys.readouterr()
    ablation.run_ablation(plan, figures, tmp_path, cells, fold=1, folds=2)
    assert "epoch" not in capsys.readouterr().out, "finished folds are not trained again"

    table = ablation.collect_ablation(plan, figures, tmp_path, cells, folds=2)
    recalls = {}
    for cell in cells:
        folds = [pd.read_csv(tmp_path / cell / f"fold-{fold}-of-2" / "predictions.csv") for fold in (1, 2)]
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


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.parent.glob("recipes/ablation*.yaml")))
def test_the_ablation_recipes_differ_in_backbone_alone(path: Path) -> None:
    plan = read_recipe(path)
    assert (plan.augmentation, plan.mixup, plan.optimise.epochs) == ("none", None, 5)
    assert (plan.loss.labels, plan.loss.gamma, plan.loss.adaptive_weight) == ("hard", 0, True)
    for cell in ablation.CELLS:
        ablation.cell_recipe(plan, cell)


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
    assert (
        "--variant is 'thrice', expected one of baseline, the same, twice the rate" in capsys.readouterr().err
    )


def test_another_seed_is_the_recipe_but_for_it(data: Path, recipe: Path, tmp_path: Path) -> None:
    command = ["lodo", str(recipe), "--data", str(data), "--out", str(tmp_path), "--fold", "0"]
    assert main([*command, "--seed", "5"]) == 0
    (folder,) = tmp_path.iterdir()
    assert read_recipe(folder / "recipe.yaml") == override(read_recipe(recipe), {"optimise.seed": 5})


def test_final_trains_to_the_horizon_and_its_bundle_scores_a_stack(
    data: Path,
    recipe: Path,
    finished: Path,
    tmp_path: Path,
    make_job: Callable[..., Path],
    pages: NDArray[np.uint8],
) -> None:
    out, lodo_out = tmp_path / "final", tmp_path / "lodo"
    shutil.copytree(finished, lodo_out)
    record = json.loads((lodo_out / "record.json").read_text())
    record["best_epochs"] = {"domain 0": 1, "domain 1": 3, "domain 2": 9}
    (lodo_out / "record.json").write_text(json.dumps(record))
    command = ["final", str(recipe), "--data", str(data), "--out", str(out), "--lodo", str(lodo_out)]
    assert main([*command, "--seeds", "0", "1"]) == 0

    for seed in (0, 1):
        history = json.loads((out / f"seed-{seed}" / "history.json").read_text())
        assert len(history) == 3
        assert read_recipe(out / f"seed-{seed}" / "recipe.yaml").optimise.seed == seed
    bundle = load(out / "bundle")
    assert len(bundle.members) == 2
    calibration = json.loads((out / "calibration.json").read_text())
    assert bundle.spec.temperature == calibration["temperature"]
    assert bundle.spec.threshold == calibration["threshold"]
    assert "120 out-of-fold figures" in bundle.spec.fitted_on
    summary = pd.read_csv(finished / "summary.csv", index_col="domain")
    metrics = bundle.spec.provenance["metrics"]
    assert metrics["domain 1, held out"]["BA"] == pytest.approx(summary.loc["domain 1", "BA fitted"])
    assert metrics["mean over domains"]["AUC"] == pytest.approx(summary.loc["mean", "AUC"])
    assert bundle.spec.provenance["recipe"]["name"] == "tiny"
    card = (out / "bundle" / "MODEL_CARD.md").read_text()
    assert open_figures(data).table_hash in card
    assert "domain 1, held out" in card

    output = tmp_path / "output"
    output.mkdir()
    assert len(job.run(make_job(pages), output, out / "bundle", "cpu")) == len(pages)


def test_final_refuses_a_lodo_run_of_another_recipe(
    data: Path, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = written({**RECIPE, "augmentation": "medium"}, tmp_path / "other.yaml")
    command = ["final", str(other), "--data", str(data), "--out", str(tmp_path), "--lodo", str(finished)]
    assert main(command) == 2
    assert "LODO run of another recipe" in capsys.readouterr().err


def test_calibrate_writes_into_a_bundle_of_the_same_network(
    finished: Path, tmp_path: Path, make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_bundle(threshold=0.9, temperature=3.0)
    command = ["calibrate", "--lodo", str(finished), "--out", str(tmp_path / "calibration")]
    assert main([*command, "--bundle", str(bundle)]) == 0
    calibration = json.loads((tmp_path / "calibration" / "calibration.json").read_text())
    spec = read_spec(bundle)
    assert (spec.temperature, spec.threshold) == (calibration["temperature"], calibration["threshold"])
    assert spec.fitted_on == calibration["fitted_on"]
    assert spec.provenance["calibration"]["table_hash"] == calibration["table_hash"]
    assert calibration["fitted_on"] in (bundle / "MODEL_CARD.md").read_text()
    load(bundle)

    turned = make_bundle("turned", views=8)
    assert main([*command, "--bundle", str(turned)]) == 2
    assert "backbone and views ('compact', 8)" in capsys.readouterr().err
    assert read_spec(turned).threshold == 0.5


def test_two_runs_are_compared_on_the_command_line(finished: Path, tmp_path: Path) -> None:
    b = tmp_path / "b"
    b.mkdir()
    predictions = pd.read_csv(finished / "out-of-fold.csv")
    perfect = predictions.assign(logit=np.where(predictions["label"] == 1, 2.0, -2.0))
    perfect.sample(frac=1, random_state=0).to_csv(b / "out-of-fold.csv", index=False)
    assert main(["lodo", "--compare", str(finished), str(b), "--out", str(tmp_path)]) == 0
    text = (tmp_path / "comparison.md").read_text()
    assert f"A = {finished.name}, B = b." in text
    assert "B better in 3 of 3" in text
    assert main(["lodo", "--out", str(tmp_path)]) == 2


def test_several_runs_average_their_logits(finished: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    predictions = pd.read_csv(finished / "out-of-fold.csv")
    predictions.assign(logit=predictions["logit"] + 3).to_csv(other / "out-of-fold.csv", index=False)
    joined = lodo.read_out_of_fold([finished, other])
    np.testing.assert_allclose(joined["logit"], predictions["logit"] + 1.5)
