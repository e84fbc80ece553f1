"""The experiments' plots, as PNG."""

from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure as Plot
from numpy.typing import NDArray
from pandas import DataFrame

from amf.data.palette import BLUE, GREEN, ORANGE, PURPLE, RED, SKY
from amf.evaluation.charts import draw_reliability
from amf.evaluation.threshold import Threshold, threshold_curve
from amf.experiments.record import MEAN, STD
from amf.files import written_whole

STYLES = ("-", "--", "-.", ":")


def draw_domain_bars(summary: DataFrame, path: Path) -> None:
    """A LODO summary: BA and both recalls of each domain at the fitted threshold, BA at 0.5 as a mark."""
    domains = summary.drop(index=[MEAN, STD])
    plot = Plot(figsize=(8, 1.6 + 0.9 * len(domains)), layout="constrained")
    axes = plot.subplots()
    place = np.arange(len(domains))[::-1]
    for step, (name, color, ink) in enumerate(
        (("BA", BLUE, "white"), ("AMF recall", ORANGE, "black"), ("NMF recall", SKY, "black"))
    ):
        bars = axes.barh(place + 0.26 * (1 - step), domains[f"{name} fitted"], 0.25, color=color, label=name)
        axes.bar_label(bars, fmt="%.3f", label_type="center", color=ink, fontsize=8)
    axes.plot(
        domains["BA at 0.5"], place + 0.26, "D", color="black", markersize=4, linestyle="", label="BA at 0.5"
    )
    mean, std = summary["BA fitted"][MEAN], summary["BA fitted"][STD]
    axes.axvline(mean, color="black", linewidth=1, linestyle="--", label=f"mean BA {mean:.3f} ± {std:.3f}")
    axes.set_yticks(place, [fill(f"{name} ({n})", 30) for name, n in domains["n"].items()], fontsize=8)
    axes.set(xlim=(0, 1.05), xlabel="at the threshold of the other domains")
    plot.legend(loc="outside upper center", ncols=5, fontsize=8, frameon=False)
    _save(plot, path)


def draw_threshold_curve(
    confidences: NDArray[np.float64], labels: NDArray[np.int64], domains: NDArray[np.object_],
    threshold: Threshold, path: Path,
) -> None:  # fmt: skip
    """Balanced accuracy against the threshold: each domain, their mean, all figures, and the choice."""
    plot = Plot(figsize=(8, 5), layout="constrained")
    axes = plot.subplots()
    cuts = np.linspace(0, 1, 501)

    def curve(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        found = threshold_curve(labels[rows], confidences[rows])[::-1]
        return np.interp(cuts, found["threshold"], found["balanced_accuracy"], left=0.5, right=0.5)

    names = sorted(set(domains))
    curves = [curve(domains == name) for name in names]
    colors = (ORANGE, SKY, GREEN, RED, PURPLE)
    for number, (name, values) in enumerate(zip(names, curves, strict=True)):
        style = STYLES[number // len(colors) % len(STYLES)]
        axes.plot(cuts, values, style, color=colors[number % len(colors)], linewidth=1, label=fill(name, 60))
    axes.plot(cuts, np.mean(curves, axis=0), "--", color=BLUE, linewidth=2, label="mean of the domains")
    axes.plot(cuts, curve(np.ones(len(labels), bool)), color="black", linewidth=2, label="all figures pooled")
    axes.axvspan(threshold.low, threshold.high, color="#dddddd", label="95 % of the resampled best cuts")
    axes.axvline(threshold.value, color="black", linewidth=1, label=f"threshold {threshold.value:.3f}")
    axes.set(xlabel="threshold on P(atypical)", ylabel="balanced accuracy", xlim=(0, 1), ylim=(0.48, 1))
    axes.legend(fontsize=7, loc="lower center")
    _save(plot, path)


def draw_calibration(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64], path: Path
) -> None:
    """Reliability before and after the calibration."""
    plot = Plot(figsize=(6, 5.5), layout="constrained")
    axes = plot.subplots()
    draw_reliability(axes, labels, {"calibrated": after, "as trained": before})
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="P(atypical)", ylabel="share of AMF")
    _save(plot, path)


def draw_ablation(ours: DataFrame, theirs: DataFrame, path: Path) -> None:
    """ΔBA of each cell with its std, ours and the paper's; columns BA and BA std, one row a cell."""
    plot = Plot(figsize=(8, 1.2 + 0.45 * len(ours)), layout="constrained")
    axes = plot.subplots()
    place = np.arange(len(ours))[::-1]
    for shift, (name, table, color) in ((0.2, ("ours", ours, BLUE)), (-0.2, ("paper", theirs, ORANGE))):
        axes.barh(place + shift, table["BA"], 0.38, xerr=table["BA std"], color=color, label=name, capsize=2)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(place, list(ours.index))
    axes.set_xlabel("difference in balanced accuracy to the baseline (bars: std of the cell over the folds)")
    axes.legend()
    _save(plot, path)


def _save(plot: Plot, path: Path) -> None:
    with written_whole(path) as partial:
        plot.savefig(partial, format="png", dpi=120)
