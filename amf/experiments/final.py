"""The final model (paper, Final Model): pooled data, 95 % to train on, 5 % to choose the epoch by."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amf.data.figures import Figures
from amf.data.splits import monitor_split
from amf.experiments.calibration import Calibration, calibrate
from amf.experiments.export import export
from amf.experiments.folds import best_epoch, slug
from amf.experiments.lodo import Lodo, member_name
from amf.experiments.record import with_mean_and_std
from amf.experiments.scores import called, score_domains
from amf.model.backbones import BACKBONES
from amf.model.spec import BundleSpec
from amf.training.loop import fit
from amf.training.recipe import Model, Recipe, override


def run_final(members: Sequence[Recipe], figures: Figures, lodo: Lodo, out: Path) -> list[Path]:
    """Train each member on 95 % of all figures up to its horizon; return the run folders. Resumable.

    The learning rate's schedule ends at the horizon, so the last epochs are annealed; patience may end a run
    before. Each seed also draws its own monitor split.

    Raises
    ------
    DataError : a folder holds a run of another recipe or table.
    """
    runs = []
    for member in members:
        epochs = lodo.horizon(member)
        split = monitor_split(figures.table, seed=member.optimise.seed)
        runs.append(out / slug(member_name(member)))
        print(f"final run, {member_name(member)}: {len(split.train)} figures, {epochs} epochs", flush=True)
        recipe = override(member, {"optimise.epochs": epochs})
        fit(recipe, figures, split.train, split.held_out, runs[-1], resume=True)
    return runs


def bundle_final(
    members: Sequence[Recipe], figures: Figures, lodo: Lodo, runs: list[Path], out: Path, target: Path
) -> tuple[BundleSpec, Calibration]:
    """Calibrate from the LODO run (see `calibrate`); export the members as one bundle with its card."""
    calibration = calibrate(lodo, out)
    labels, domains = figures.table["label"], ", ".join(figures.domains)
    low, high = calibration.interval
    several = f" {len(runs)} members average their logits." if len(runs) > 1 else ""
    networks = dict.fromkeys(
        f"Recipe {member.name}: backbone {member.model.backbone}, weights {_origin(member.model)}, "
        f"trained parts: {member.model.train}."
        for member in members
    )
    epochs = [
        f"{member_name(member)}: {best_epoch(member, run)} of {lodo.horizon(member)}"
        for member, run in zip(members, runs, strict=True)
    ]
    fold, folds = ("fold", "slides") if lodo.by_slide else ("domain", "domains")
    record: dict[str, Any] = {
        "summary": " ".join(networks) + several,
        "data": {
            "trained on": f"95 % of {len(labels)} figures ({labels.sum()} AMF) of "
            f"{figures.table['slide'].nunique()} slides in {len(figures.domains)} domains: {domains}",
            "epoch chosen on": _epoch_chosen_on(members),
            "calibrated on": calibration.fitted_on,
            "table": figures.table_hash,
        },
        "metrics": _held_out_metrics(lodo, fold),
        "members": [member.model_dump(mode="json") for member in members],
        "calibration": dataclasses.asdict(calibration),
        "made_with": {
            "best epoch by member": "; ".join(epochs),
            "threshold interval": f"{low:.3f} to {high:.3f} (95 % of bootstrapped best cuts)",
            "expected calibration error out of fold": f"{calibration.ece['before']:.3f} before and "
            f"{calibration.ece['held_out']:.3f} with each {fold}'s temperature and bias from the others",
            "measured": f"out of fold, each {fold} by networks that never saw it, at the threshold that the "
            f"other {fold}s choose; not on this bundle's own members, which saw all {folds}",
        },
    }
    spec = export(
        runs,
        target,
        name=" and ".join(dict.fromkeys(member.name for member in members)),
        temperature=calibration.temperature,
        bias=calibration.bias,
        threshold=calibration.threshold,
        fitted_on=calibration.fitted_on,
        record=record,
        patches=figures.patches,
    )
    return spec, calibration


def _epoch_chosen_on(members: Sequence[Recipe]) -> str:
    """Which figures chose the members' epochs."""
    monitor = "the other 5 %, drawn by figure, stratified by label, anew for each seed"
    kept_last = [member.optimise.monitor == "last" for member in members]
    if all(kept_last):
        return "nothing: each member's last epoch was kept; the other 5 % were watched alone"
    return f"{monitor}; some members' last epoch was kept" if any(kept_last) else monitor


def _origin(model: Model) -> str:
    """Where a member's weights started, with the licence that came with them."""
    entry = BACKBONES[model.backbone]
    places = {
        "hub": f"{entry.hub} ({entry.licence})",
        "imagenet": f"ImageNet's, {entry.package} ({entry.licence})",
    }
    return places.get(model.weights, model.weights)


def _held_out_metrics(lodo: Lodo, fold: str) -> dict[str, dict[str, Any]]:
    columns = {
        "figures": "n", "AMF": "AMF", "AUC": "AUC", "BA": "BA fitted",
        "AMF recall": "AMF recall fitted", "NMF recall": "NMF recall fitted",
    }  # fmt: skip
    scores = score_domains(called(lodo.predictions))
    rows = with_mean_and_std(scores).iterrows()
    return {
        f"{name}, held out" if name in scores.index else f"{name} over {fold}s": {
            key: row[column] for key, column in columns.items()
        }
        for name, row in rows
    }
