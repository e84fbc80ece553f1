"""The final model (paper, Final Model): pooled data, 95 % to train on, 5 % to choose the epoch by."""

from pathlib import Path
from statistics import median_high
from typing import Any

from pandas import DataFrame

from amf.data.figures import Figures
from amf.data.splits import monitor_split
from amf.errors import DataError
from amf.experiments.calibration import Calibration
from amf.experiments.export import export
from amf.experiments.folds import best_epoch
from amf.experiments.lodo import read_out_of_fold, summarise
from amf.experiments.record import read_record
from amf.experiments.scores import with_mean_and_std
from amf.model.bundle import BundleSpec
from amf.training.loop import fit
from amf.training.recipe import Recipe, override, parse_recipe


def horizon(recipe: Recipe, figures: Figures, lodo: list[Path]) -> int:
    """Epochs of the final run: the median best epoch over all folds of the LODO runs (paper, Data splitting).

    Raises
    ------
    DataError : a LODO run is of another recipe (its seed apart) or of another table.
    """
    epochs = []
    for folder in lodo:
        record = read_record(folder)
        theirs = parse_recipe(record["recipe"], str(folder))
        if theirs != override(recipe, {"optimise.seed": theirs.optimise.seed}):
            raise DataError(f"{folder} is a LODO run of another recipe than {recipe.name}")
        if record["table_hash"] != figures.table_hash:
            raise DataError(
                f"{folder} is a LODO run of the table {record['table_hash'][:12]}, "
                f"the data are of {figures.table_hash[:12]}"
            )
        epochs += record["best_epochs"].values()
    return median_high(epochs)


def run_final(recipe: Recipe, figures: Figures, out: Path, seeds: list[int], epochs: int) -> list[Path]:
    """Train a member a seed on 95 % of all figures; return the run folders. Resumable.

    The learning rate's schedule ends at the horizon, so the last epochs are annealed; patience may end a run
    before. Each seed also draws its own monitor split.

    Raises
    ------
    DataError : a folder holds a run of another recipe or table.
    """
    runs = []
    for seed in seeds:
        member = override(recipe, {"optimise.seed": seed, "optimise.epochs": epochs})
        split = monitor_split(figures.table, seed=seed)
        runs.append(out / f"seed-{seed}")
        print(f"final run, seed {seed}: {len(split.train)} figures, {epochs} epochs", flush=True)
        fit(member, figures, split.train, split.held_out, runs[-1], resume=True)
    return runs


def bundle_final(
    recipe: Recipe,
    figures: Figures,
    runs: list[Path],
    lodo: list[Path],
    calibration: Calibration,
    target: Path,
) -> BundleSpec:
    """Export the members as one bundle, with a model card made of the runs' own records."""
    members = {run.name: best_epoch(recipe, run) for run in runs}
    labels, domains = figures.table["label"], ", ".join(figures.domains)
    low, high = calibration.interval
    several = f"; {len(runs)} members average their logits" if len(runs) > 1 else ""
    record: dict[str, Any] = {
        "summary": f"Recipe {recipe.name}: backbone {recipe.model.backbone}, weights {recipe.model.weights}, "
        f"trained parts: {recipe.model.train}{several}.",
        "data": {
            "trained on": f"95 % of {len(labels)} figures ({labels.sum()} AMF) of "
            f"{figures.table['slide'].nunique()} slides in {len(figures.domains)} domains: {domains}",
            "epoch chosen on": "the other 5 %, drawn by figure and stratified by label, a draw a seed",
            "calibrated on": calibration.fitted_on,
            "table": figures.table_hash,
        },
        "metrics": _held_out_metrics(read_out_of_fold(lodo)),
        "recipe": recipe.model_dump(mode="json"),
        "calibration": {"interval": [low, high], "ece": calibration.ece, "seeds": calibration.seeds},
        "made_with": {
            "recipe": recipe.name,
            "best epoch by member": ", ".join(f"{name} {epoch}" for name, epoch in members.items()),
            "threshold interval": f"{low:.3f} to {high:.3f} (95 % of bootstrapped best cuts)",
            "expected calibration error out of fold": f"{calibration.ece['before']:.3f} before and "
            f"{calibration.ece['held_out']:.3f} with each domain's temperature and bias from the others",
            "measured": "out of fold, each domain by networks that never saw it, at the threshold that the "
            "other domains choose; not on this bundle's own members, which saw all domains",
        },
    }
    return export(
        runs,
        target,
        name=recipe.name,
        temperature=calibration.temperature,
        bias=calibration.bias,
        threshold=calibration.threshold,
        fitted_on=calibration.fitted_on,
        record=record,
    )


def _held_out_metrics(predictions: DataFrame) -> dict[str, dict[str, Any]]:
    summary = with_mean_and_std(summarise(predictions))
    return {
        f"{name}, held out" if name in set(predictions["domain"]) else f"{name} over domains": {
            key: row[column]
            for key, column in (
                ("figures", "n"), ("AMF", "AMF"), ("AUC", "AUC"), ("BA", "BA fitted"),
                ("AMF recall", "AMF recall fitted"), ("NMF recall", "NMF recall fitted"),
            )
        }
        for name, row in summary.iterrows()
    }  # fmt: skip
