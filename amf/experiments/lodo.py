"""Leave-one-domain-out cross-validation (paper, Data splitting strategy and Cross-Domain Performance)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median_high

import numpy as np
import pandas as pd
from pandas import DataFrame
from scipy.special import expit

from amf.data.figures import Figures
from amf.data.splits import leave_one_domain_out
from amf.errors import DataError
from amf.experiments import paper
from amf.experiments.folds import best_epoch, chosen, collect, fold_folder, run_fold
from amf.experiments.plots import draw_domain_bars
from amf.experiments.record import write_record
from amf.experiments.scores import (
    MEAN,
    PAPER_THRESHOLD,
    STD,
    confidences_of,
    markdown,
    scores,
    with_mean_and_std,
)
from amf.experiments.threshold import fit_threshold
from amf.files import write_text, written_whole
from amf.training.recipe import Recipe, write_recipe

OUT_OF_FOLD, SUMMARY = "out-of-fold.csv", "summary"
DEFINITIONS = """BA is the mean of AMF recall and NMF recall. "at 0.5": atypical from sigmoid(logit) = 0.5 on,
as in the paper. "fitted": from the threshold of greatest BA on the pooled out-of-fold predictions of the
*other* domains (median over 1,000 bootstrap resamples), so a domain's own labels never choose its threshold.
Mean and std (n − 1) count every domain alike, whatever its size.
"""


@dataclass(frozen=True)
class Lodo:
    """A finished LODO run.

    Attributes
    ----------
    predictions : image, slide, domain, label, soft_label, logit, fold; each figure once.
    summary : see `summarise`, with the rows mean and std.
    best_epochs : by domain, from 1; horizon : their median (of an even number, the higher middle one).
    """

    predictions: DataFrame
    summary: DataFrame
    best_epochs: dict[str, int]
    horizon: int


def run_lodo(recipe: Recipe, figures: Figures, out: Path, fold: int | None = None) -> list[Path]:
    """Run all folds, or the one of that number (from 0), each resumable; return their folders.

    Raises
    ------
    DataError : there is no such fold, or a folder holds one of another recipe or table.
    """
    splits = chosen(leave_one_domain_out(figures.table), fold)
    for split in splits:
        print(f"held out: {split.name} ({len(split.held_out)} figures)", flush=True)
        run_fold(recipe, figures, split, fold_folder(out, split))
    return [fold_folder(out, split) for split in splits]


def collect_lodo(recipe: Recipe, figures: Figures, out: Path) -> Lodo:
    """Join the finished folds; write predictions, summary (CSV, Markdown, PNG), recipe and record to `out`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    splits = leave_one_domain_out(figures.table)
    predictions = collect(recipe, figures, out, splits)
    epochs = {split.name: best_epoch(recipe, fold_folder(out, split)) for split in splits}
    summary = with_mean_and_std(summarise(predictions))
    done = Lodo(predictions, summary, epochs, median_high(epochs.values()))

    with written_whole(out / OUT_OF_FOLD) as partial:
        predictions.to_csv(partial, index=False)
    with written_whole(out / f"{SUMMARY}.csv") as partial:
        summary.to_csv(partial, index_label="domain")
    write_text(out / f"{SUMMARY}.md", report(recipe, figures, done))
    draw_domain_bars(summary, out / f"{SUMMARY}.png")
    write_recipe(recipe, out / "recipe.yaml")
    write_record(out, recipe, figures, best_epochs=epochs, horizon=done.horizon)
    return done


def summarise(predictions: DataFrame) -> DataFrame:
    """Score each domain at 0.5 and at the threshold that the other domains choose.

    The latter are the other domains' out-of-fold predictions: no network has seen the figures it is chosen
    on, and the domain's own labels take no part in choosing it.

    Returns
    -------
    One row a domain: n, AMF (counts), AUC, BA, AMF recall and NMF recall "at 0.5", threshold, and the same
    three "fitted".
    """
    confidences = confidences_of(predictions)
    rows = {}
    for domain, own in predictions.groupby("domain"):
        others = predictions["domain"] != domain
        threshold = fit_threshold(confidences[others], predictions["label"][others]).value
        p, y = confidences[own.index], own["label"]
        at_half, fitted = scores(p, y), scores(p, y, threshold)
        columns = ("BA", "AMF recall", "NMF recall")
        rows[domain] = {
            "n": len(own),
            "AMF": int(y.sum()),
            "AUC": at_half["AUC"],
            **{f"{name} at {PAPER_THRESHOLD}": at_half[name] for name in columns},
            "threshold": threshold,
            **{f"{name} fitted": fitted[name] for name in columns},
        }
    return DataFrame.from_dict(rows, orient="index")


def report(recipe: Recipe, figures: Figures, lodo: Lodo) -> str:
    """The summary as Markdown, the paper's mean below ours."""
    epochs = "; ".join(f"{domain}: {epoch}" for domain, epoch in lodo.best_epochs.items())
    theirs = ", ".join(f"{name} {mean:.3f} ± {std:.3f}" for name, (mean, std) in paper.LODO.items())
    ours = ", ".join(f"{name} {_mean_and_std(lodo.summary, f'{name} at 0.5')}" for name in paper.LODO)
    return "\n".join(
        [
            f"Recipe {recipe.name}, seed {recipe.optimise.seed}, table {figures.table_hash[:12]} "
            f"({len(figures.table)} figures).",
            "",
            markdown(lodo.summary, "held-out domain"),
            DEFINITIONS,
            f"- ours, at 0.5: {ours}",
            f"- ours, fitted: BA {_mean_and_std(lodo.summary, 'BA fitted')}",
            f"- the paper (10 domains, at 0.5): {theirs}",
            f"- horizon, the median best epoch: {lodo.horizon} of {recipe.optimise.epochs} ({epochs})",
            "",
        ]
    )


def _mean_and_std(table: DataFrame, column: str) -> str:
    return f"{table[column][MEAN]:.3f} ± {table[column][STD]:.3f}"


def read_out_of_fold(folders: list[Path]) -> DataFrame:
    """The out-of-fold predictions of one LODO run, or of several with their logits averaged as a bundle does.

    Raises
    ------
    DataError : a run is not collected, or the runs are not of the same figures.
    """
    frames = []
    for folder in folders:
        try:
            frames.append(pd.read_csv(folder / OUT_OF_FOLD))
        except OSError as error:
            raise DataError(
                f"{folder / OUT_OF_FOLD} cannot be read, `amf lodo --collect` writes it: {error}"
            ) from error
    first = frames[0]
    for folder, frame in zip(folders, frames, strict=True):
        if frame["image"].tolist() != first["image"].tolist():
            raise DataError(f"{folder / OUT_OF_FOLD} holds other figures than {folders[0] / OUT_OF_FOLD}")
    return first.assign(logit=np.mean([frame["logit"] for frame in frames], axis=0))


def rank(runs: Mapping[str, Lodo]) -> DataFrame:
    """The combinations of a grid, best first: mean over domains of the BA at the other domains' threshold."""
    columns = ("BA fitted", f"BA at {PAPER_THRESHOLD}", "AUC")
    rows = {
        name: {
            **{f"{kind}: {end}": float(run.summary[kind][end]) for kind in columns for end in (MEAN, STD)},
            "horizon": run.horizon,
        }
        for name, run in runs.items()
    }
    table = DataFrame.from_dict(rows, orient="index")
    return table.sort_values(f"BA fitted: {MEAN}", ascending=False, kind="stable")


def compare(a: DataFrame, b: DataFrame, resamples: int = 10_000, seed: int = 0) -> tuple[DataFrame, str]:
    """Two recipes on the same held-out figures: the difference B − A, paired by domain and by figure.

    The interval of the mean difference in BA over domains comes from a paired bootstrap: within each domain
    and class, figures are drawn with replacement, and both recipes are scored on the same ones, at their
    fitted thresholds. Only a figure's gain (B right, A wrong: +1; A right, B wrong: −1; else 0) matters to
    the difference, so the counts of gains are drawn, from a multinomial distribution.

    Parameters
    ----------
    a, b : out-of-fold predictions of the same figures.

    Returns
    -------
    One row a domain with A, B and B − A of each score, the rows mean and std below; and a sentence.

    Raises
    ------
    DataError : the figures differ.
    """
    a, b = (frame.sort_values("image").reset_index(drop=True) for frame in (a, b))
    if any(a[key].tolist() != b[key].tolist() for key in ("image", "domain", "label")):
        raise DataError(f"the two runs hold {len(a)} and {len(b)} figures that are not the same ones")
    summaries = [summarise(frame) for frame in (a, b)]
    rows = summaries[0][["n", "AMF"]].copy()
    for name in (f"BA at {PAPER_THRESHOLD}", "BA fitted", "AUC"):
        rows[f"{name}: A"], rows[f"{name}: B"] = (summary[name] for summary in summaries)
        rows[f"{name}: B − A"] = rows[f"{name}: B"] - rows[f"{name}: A"]

    right = [_right(frame, summary) for frame, summary in zip((a, b), summaries, strict=True)]
    gain = right[1].astype(int) - right[0].astype(int)
    generator = np.random.default_rng(seed)
    drawn = np.zeros(resamples)  # mean over domains of half the sum of the two recalls' differences
    for _, stratum in gain.groupby([a["domain"], a["label"]]):
        shares = [float((stratum == value).mean()) for value in (-1, 0, 1)]
        counts = generator.multinomial(len(stratum), shares, size=resamples)  # (resamples, 3)
        drawn += (counts[:, 2] - counts[:, 0]) / len(stratum) / 2 / a["domain"].nunique()
    low, high = np.quantile(drawn, [0.025, 0.975])
    difference = rows["BA fitted: B − A"]
    sentence = (
        f"B − A, mean BA over domains at the fitted thresholds: {difference.mean():+.3f} "
        f"(95 % interval {low:+.3f} to {high:+.3f}, figures resampled in pairs, {resamples} times); "
        f"over domains {difference.mean():+.3f} ± {difference.std():.3f}, "
        f"B better in {int((difference > 0).sum())} of {len(difference)}."
    )
    return with_mean_and_std(rows), sentence


def _right(predictions: DataFrame, summary: DataFrame) -> "pd.Series[bool]":
    """Whether each figure is called correctly at its domain's fitted threshold."""
    threshold = predictions["domain"].map(summary["threshold"])
    return (expit(predictions["logit"]) >= threshold) == (predictions["label"] == 1)
