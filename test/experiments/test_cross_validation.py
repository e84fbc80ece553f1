"""LODO, grids, trials and the ablation from the command line, on drawn figures."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf.cli import main
from amf.data.figures import PATCHES, TABLE, Figures, open_figures
from amf.data.packed import pack
from amf.data.table import write_table
from amf.errors import DataError
from amf.experiments import folds, lodo, paper
from amf.experiments.folds import CrossValidation, best_epoch, read_fold, run_fold
from amf.model.digest import file_digest
from amf.training.recipe import BASELINE, override, read_recipe, read_variants
from test.support.paths import ROOT

Write = Callable[..., Path]
DOMAINS = ("domain-0", "domain-1", "domain-2")


def test_every_figure_is_predicted_once_by_a_network_without_its_domain(data: Path, finished: Path) -> None:
    predictions, table = pd.read_csv(finished / "out-of-fold.csv"), open_figures(data).table
    assert sorted(predictions["image"]) == sorted(table["image"])
    assert (predictions["fold"] == predictions["domain"]).all()
    for folder in DOMAINS:
        fold, domain = pd.read_csv(finished / folder / "predictions.csv"), folder.replace("-", " ")
        assert set(fold["image"]) == set(table["image"][table["domain"] == domain])
    assert not list(finished.rglob("checkpoint*")), "a finished fold keeps its best weights alone"


def test_the_summary_holds_a_naive_count(finished: Path) -> None:
    predictions = pd.read_csv(finished / "out-of-fold.csv")
    summary = pd.read_csv(finished / "summary.csv", index_col="domain")
    accuracies = []
    for domain, figures in predictions.groupby("domain"):
        amf, nmf = (figures["logit"][figures["label"] == label] for label in (1, 0))
        recalls = [(amf >= 0).mean(), (nmf < 0).mean()]
        pairs = [(a > n) + 0.5 * (a == n) for a in amf for n in nmf]
        accuracies.append(sum(recalls) / 2)
        row = summary.loc[domain]
        assert (row["n"], row["AMF"]) == (len(figures), len(amf))
        assert [row["AMF recall at 0.5"], row["NMF recall at 0.5"]] == pytest.approx(recalls)
        assert row["BA at 0.5"] == pytest.approx(accuracies[-1])
        assert row["AUC"] == pytest.approx(np.mean(pairs))
    assert summary.loc["mean", "BA at 0.5"] == pytest.approx(np.mean(accuracies))
    assert summary.loc["std", "BA at 0.5"] == pytest.approx(np.std(accuracies, ddof=1))
    groups = pd.read_csv(finished / "summary-groups.csv", index_col="group")
    assert groups["n"].to_dict() == {"species: not published": 120, "tumour: not published": 120}
    text = (finished / "summary.md").read_text()
    for part in ("| species: not published | 3 | 120 |", "0.851 ± 0.037", f"BA {np.mean(accuracies):.3f} ±"):
        assert part in text
    assert (finished / "summary.png").stat().st_size > 10_000


def test_the_horizon_is_the_median_best_epoch(data: Path, finished: Path) -> None:
    record = json.loads((finished / "record.json").read_text())
    histories = [json.loads((finished / fold / "history.json").read_text()) for fold in DOMAINS]
    best = [1 + int(np.argmax([epoch["auc"] for epoch in history])) for history in histories]
    (member,) = record["members"]
    assert list(member["best_epochs"].values()) == best
    assert member["horizon"] == sorted(best)[1]
    assert record["table_hash"] == open_figures(data).table_hash


def test_the_best_epoch_follows_the_recipes_monitor(write: Write, tmp_path: Path) -> None:
    values = [(0.5, 0.7), (0.3, 0.6), (0.4, 0.8), (0.5, 0.7)]
    (tmp_path / "history.json").write_text(json.dumps([{"loss": a, "auc": b} for a, b in values]))
    recipe = read_recipe(write())
    for monitor, expected in (("auc", 3), ("loss", 2), ("last", 4)):
        assert best_epoch(override(recipe, {"optimise.monitor": monitor}), tmp_path) == expected


def test_folds_run_alone_by_number_or_domain_and_resume(
    data: Path,
    write: Write,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    command = ["lodo", str(write()), "--data", str(data), "--out", str(out)]
    assert main([*command, "--fold", "domain-2"]) == 0
    assert "tiny, seed 0: fold 3/3, held out: domain 2, " in capsys.readouterr().out
    with monkeypatch.context() as broken_off:  # between training and scoring

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        broken_off.setattr(folds, "held_out_logits", interrupted)
        assert main([*command, "--fold", "1"]) == 130
    assert {path.name for path in out.iterdir()} == set(DOMAINS[1:])
    assert main([*command, "--collect"]) == 2
    assert "lacks 2 of 3 folds (domain-0, domain-1)" in capsys.readouterr().err

    assert main(command) == 0
    assert capsys.readouterr().out.count("epoch 1/2") == 1, "trained folds are not trained again"
    assert (out / "out-of-fold.csv").read_bytes() == (finished / "out-of-fold.csv").read_bytes()


def test_of_several_members_a_fold_is_run_of_the_one_named(data: Path, write: Write, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["lodo", str(write()), "--seeds", "0", "1", "--data", str(data), "--out", str(out)]
    assert main([*command, "--fold", "0", "--member", "tiny-seed-1"]) == 0
    (recipe,) = out.rglob("recipe.yaml")
    assert recipe.parent == out / "tiny-seed-1" / DOMAINS[0]
    assert read_recipe(recipe) == override(read_recipe(write()), {"optimise.seed": 1})


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("tiny.yaml --fold 3", "expected 0 to 2, or one of domain-0, domain-1, domain-2"),
        ("tiny.yaml --fold domain-9", "expected 0 to 2, or one of domain-0, domain-1, domain-2"),
        ("tiny.yaml --fold 0 --seeds 0 1", "expected --member with one of tiny-seed-0, tiny-seed-1"),
        ("tiny.yaml --fold 0 --member x --seeds 0 1", "--member is 'x', expected one of tiny-seed-0"),
        ("tiny.yaml --seeds 0 0", "expected each recipe's name and seed once"),
        ("tiny.yaml grid.yaml", "expected none with a grid"),
        ("", "`amf lodo` needs a recipe and --data"),
    ],
)
def test_what_a_lodo_run_cannot_be_is_one_sentence(
    data: Path,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    fault: str,
) -> None:
    write()
    write("grid", grid={"optimise.learning_rate": [1e-3, 1e-2]})
    monkeypatch.chdir(tmp_path)
    assert main(["lodo", *arguments.split(), "--data", str(data), "--out", "out"]) == 2
    assert fault in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_grid_is_run_by_combination_and_ranked(
    data: Path, write: Write, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write("grid", grid={"optimise.learning_rate": [1e-3, 1e-2]}), tmp_path / "out"
    names = ["grid-optimise.learning-rate-0.001", "grid-optimise.learning-rate-0.01"]
    assert main(["lodo", str(path), "--data", str(data), "--out", str(out)]) == 0
    ranking = pd.read_csv(out / "ranking.csv", index_col=0)
    assert sorted(ranking.index) == names
    assert ranking["BA fitted: mean"].is_monotonic_decreasing
    for name, row in ranking.iterrows():
        summary = pd.read_csv(out / str(name) / "summary.csv", index_col="domain")
        assert row["BA fitted: mean"] == pytest.approx(summary.loc["mean", "BA fitted"])
    chosen = read_recipe(out / "chosen.yaml")
    assert chosen == read_recipe(out / ranking.index[0] / "recipe.yaml")

    # Job by job: a recipe file for each combination, each run apart, then ranked, gives the same.
    capsys.readouterr()
    assert main(["lodo", str(path), "--expand", str(tmp_path / "recipes")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [recipe.stem for recipe in written] == names
    assert (
        main(["lodo", "--best", *(str(out / name) for name in names), "--out", str(tmp_path / "b.yaml")]) == 0
    )
    assert (
        read_recipe(tmp_path / "b.yaml")
        == chosen
        == read_recipe(tmp_path / "recipes" / f"{ranking.index[0]}.yaml")
    )
    assert (tmp_path / "ranking.csv").read_bytes() == (out / "ranking.csv").read_bytes()
    assert f"Chosen: {chosen.name}" in (tmp_path / "ranking.md").read_text()


def test_runs_of_several_recipes_are_not_ranked(finished: Path, ensemble_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a LODO run of tiny, seed 0; .*expected one recipe"):
        lodo.choose_best([finished, ensemble_run], tmp_path / "best.yaml")
    assert not list(tmp_path.iterdir())


def test_a_trial_sets_changed_recipes_beside_the_recipe(
    data: Path, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variants = {"twice the rate": {"optimise.learning_rate": 2e-3}, "the same": {"mixup_share": 0.5}}
    path, out = write("trial", variants=variants), tmp_path / "out"
    command = ["trial", str(path), "--data", str(data), "--out", str(out)]
    assert main([*command, "--variant", "twice the rate", "--fold", "1"]) == 0
    assert [p.name for p in (out / "twice-the-rate").iterdir()] == ["fold-2-of-3"]
    assert re.search(r"twice the rate: fold 2/3, held out: fold 2 of 3, \d+ figures", capsys.readouterr().out)
    assert main([*command, "--fold", "1"]) == 2
    assert "expected --variant with one of baseline, the-same, twice-the-rate" in capsys.readouterr().err
    assert main([*command, "--variant", "thrice"]) == 2
    assert main([*command, "--collect"]) == 2
    assert main(command) == 0
    runs = {p.parent.name: read_recipe(p / "recipe.yaml") for p in out.glob("*/fold-3-of-3")}
    rates = {name: run.optimise.learning_rate for name, run in runs.items()}
    assert rates == {"baseline": 1e-3, "twice-the-rate": 2e-3, "the-same": 1e-3}
    assert {run.optimise.seed for run in runs.values()} == {2}, "the seed is the fold's"
    text = capsys.readouterr().out
    # The share of mixed batches is nothing to a recipe without MixUp: the pairs are truly paired.
    assert "| the same |" + " +0.0000 ± 0.0000 |" * 5 + " 0 of 3 | 0 of 3 |" in text
    by_fold = pd.read_csv(out / "trial-folds.csv").pivot(index="fold", columns="variant", values="AUC")
    gain = by_fold["twice the rate"] - by_fold["baseline"]
    assert f" {gain.mean():+.4f} ± {gain.std():.4f} |" in text


def test_the_ablation_is_set_beside_table_1(data: Path, write: Write, tmp_path: Path) -> None:
    path, out = write("ablation", variants={"mixup_strong": {"mixup": "strong"}}), tmp_path / "out"
    command = ["ablate", str(path), "--data", str(data), "--out", str(out), "--folds", "2"]
    assert main([*command, "--cell", "mixup_strong", "--fold", "1"]) == 0
    assert [p.name for p in out.iterdir()] == ["mixup-strong"]
    assert main(command) == 0
    found = {p.parent.name: read_recipe(p / "recipe.yaml") for p in out.glob("*/fold-2-of-2")}
    assert {name: recipe.mixup for name, recipe in found.items()} == {
        "baseline": None,
        "mixup-strong": "strong",
    }
    assert {recipe.optimise.seed for recipe in found.values()} == {0}
    recalls = {}
    for cell in found:
        parts = [pd.read_csv(path) for path in sorted(out.glob(f"{cell}/*/predictions.csv"))]
        recalls[cell] = [np.mean(fold["logit"][fold["label"] == 1] >= 0) for fold in parts]
    table = pd.read_csv(out / "ablation.csv", index_col="variant")["AMF recall"]
    assert table["baseline"] == pytest.approx(np.mean(recalls["baseline"]))
    gain = np.mean(recalls["mixup-strong"]) - np.mean(recalls["baseline"])
    assert table["mixup_strong"] == pytest.approx(gain)
    assert "+0.015 ± 0.024" in (out / "ablation.md").read_text(), "the paper's number stands beside ours"
    assert (out / "ablation.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["ablation", "ablation-compact"])
def test_the_ablation_recipes_hold_the_papers_rows(name: str) -> None:
    cells = read_variants(ROOT / "recipes" / f"{name}.yaml")
    assert list(cells) == list(paper.TABLE_1)
    for cell, recipe in cells.items():
        kind, _, mixup = cell.partition("mixup_")
        assert (recipe.augmentation, recipe.mixup) == (kind.replace(BASELINE, "") or "none", mixup or None)
        assert (recipe.loss.labels, recipe.loss.gamma, recipe.optimise.epochs) == ("hard", 0, 5)
    # The discussion gives the best pipeline's accuracy as an absolute: 0.659 ± 0.024.
    best = paper.TABLE_1["medium"][0]
    assert (paper.TABLE_1[BASELINE][0][0] + best[0], best[1]) == (pytest.approx(0.659), 0.024)


MEMBERS = ("tiny-seed-0", "wide-seed-0")


def test_an_ensembles_logits_are_the_mean_of_its_members(ensemble_run: Path, finished: Path) -> None:
    frames = [pd.read_csv(ensemble_run / name / "out-of-fold.csv")["logit"] for name in MEMBERS]
    joined = pd.read_csv(ensemble_run / "out-of-fold.csv")["logit"]
    np.testing.assert_allclose(joined, np.mean(frames, axis=0), atol=1e-12)
    assert np.std(frames, axis=0).min() > 0, "the members differ"
    alone = [(folder / "out-of-fold.csv").read_bytes() for folder in (ensemble_run / MEMBERS[0], finished)]
    assert alone[0] == alone[1], "a member is trained as it would be alone"
    assert lodo.read_lodo([ensemble_run]).names == "tiny, seed 0; wide, seed 0"
    apart = lodo.read_lodo([ensemble_run / name for name in MEMBERS]).predictions
    np.testing.assert_allclose(apart["logit"], joined, atol=1e-12)
    three = lodo.average_runs([lodo.read_lodo([finished]), lodo.read_lodo([ensemble_run])]).predictions
    np.testing.assert_allclose(three["logit"], np.mean([frames[0], *frames], axis=0), atol=1e-12)
    assert "the logits of 2 members averaged" in (ensemble_run / "summary.md").read_text()


def test_the_horizon_is_a_recipes_own_over_all_its_seeds(write: Write) -> None:
    plan = read_recipe(write())
    other = override(plan, {"name": "other"})
    epochs = [(plan, 0, [1, 2, 9]), (plan, 1, [3, 4, 5]), (other, 0, [20, 30, 40])]
    members = tuple(
        lodo.Member(lodo.with_seed(of, seed), dict(zip("abc", found, strict=True)))
        for of, seed, found in epochs
    )
    run = lodo.Lodo(members, pd.DataFrame(), "hash")
    assert run.horizon(plan) == run.horizon(lodo.with_seed(plan, 1)) == 4
    assert run.horizon(other) == 30


def test_a_finished_fold_of_something_else_is_refused(
    data: Path, write: Write, finished: Path, tmp_path: Path
) -> None:
    """Of another recipe, training side or slide grouping; and predictions that were changed."""
    out = shutil.copytree(finished, tmp_path / "out")
    figures, recipe = open_figures(data), read_recipe(write())
    (run,) = lodo.lodo_runs([recipe], figures, out)
    run_fold(run, 0, figures)  # its own: nothing to do

    def refused(run: CrossValidation, of: Figures, message: str) -> None:
        with pytest.raises(DataError, match=message):
            run_fold(run, 0, of)

    (other,) = lodo.lodo_runs([override(recipe, {"augmentation": "medium"})], figures, out)
    refused(other, figures, "another recipe than tiny")
    smaller = dataclasses.replace(run.splits[0], train=run.splits[0].train[:-5])
    refused(dataclasses.replace(run, splits=[smaller]), figures, "split other than fold.json")
    table = figures.table.copy()
    table["slide"] = table["slide"].replace({"drawn/0": "drawn/3", "drawn/3": "drawn/0"})
    write_table(table, tmp_path / "edited" / TABLE)
    pack(table, data / "images", tmp_path / "edited" / PATCHES, workers=1)
    edited = open_figures(tmp_path / "edited")
    refused(lodo.lodo_runs([recipe], edited, out)[0], edited, "(table|split) other than")

    path = out / DOMAINS[0] / "predictions.csv"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(DataError, match="predictions other than"):
        read_fold(run, 0, figures)
    path = out / "out-of-fold.csv"
    pd.read_csv(path).assign(logit=0.0).to_csv(path, index=False)
    with pytest.raises(DataError, match=r"out-of-fold.csv is not what .*record.json is of"):
        lodo.read_lodo([out])


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
