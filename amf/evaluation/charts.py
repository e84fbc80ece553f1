"""The report's charts, each an SVG text to stand inside an HTML page.

Line styles differ besides the colours, for a print without colour.
"""

import io
import re
from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import numpy as np
from grand_challenge_metrics.roc import get_bootstrapped_roc_ci_curves
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from pandas import DataFrame
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from amf.data.palette import BLUE, GREEN, GREY, RED
from amf.evaluation import metrics
from amf.evaluation.bootstrap import LEVEL
from amf.evaluation.summary import scores_of
from amf.evaluation.threshold import threshold_curve

_ROC_BOOTSTRAPS = 300
_SIZE_INCHES = (4.4, 3.7)
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, sharp and found by the browser's search
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "legend.edgecolor": "none",
    "legend.fontsize": 9,
}


def roc_chart(figures: DataFrame) -> str:
    """ROC curve with its bootstrap band and the point of the given classes."""
    label, confidence = figures["label"].to_numpy(), figures["confidence"].to_numpy()
    false_alarms, sensitivity, _ = roc_curve(label, confidence)
    counts = metrics.confusion(label, figures["predicted"].to_numpy())
    with mpl.rc_context(_STYLE):
        figure, axes = _square("false positive rate (1 − specificity)", "sensitivity")
        # The library never draws the last element; repeated, it may be drawn in its first place.
        band = get_bootstrapped_roc_ci_curves(
            np.append(confidence, confidence[-1]), np.append(label, label[-1]), _ROC_BOOTSTRAPS, LEVEL
        )
        axes.fill_between(
            band.fpr_vals, band.low_tpr_vals, band.high_tpr_vals, color=BLUE, alpha=0.2, linewidth=0,
            label="95 % band, figures resampled",
        )  # fmt: skip
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="chance")
        axes.plot(false_alarms, sensitivity, color=BLUE, linewidth=1.8, label="ROC curve")
        axes.plot(
            counts["fp"] / (counts["fp"] + counts["tn"]), counts["tp"] / (counts["tp"] + counts["fn"]),
            "D", color=RED, markersize=7, label="as classified",
        )  # fmt: skip
        axes.legend(loc="lower right")
        return _svg(figure, "roc", "ROC curve")


def precision_recall_chart(figures: DataFrame) -> str:
    """Precision over recall of AMF, with the point of the given classes."""
    label, confidence = figures["label"].to_numpy(), figures["confidence"].to_numpy()
    precision, recall, _ = precision_recall_curve(label, confidence, drop_intermediate=True)
    counts = metrics.confusion(label, figures["predicted"].to_numpy())
    with mpl.rc_context(_STYLE):
        figure, axes = _square("recall of AMF (sensitivity)", "precision of AMF")
        area = average_precision_score(label, confidence)
        axes.plot(recall, precision, color=BLUE, linewidth=1.8, label=f"average precision {area:.3f}")
        axes.axhline(
            label.mean(), color=GREY, linestyle=":", linewidth=1, label=f"all atypical {label.mean():.3f}"
        )
        if counts["tp"] + counts["fp"]:
            axes.plot(
                counts["tp"] / (counts["tp"] + counts["fn"]), counts["tp"] / (counts["tp"] + counts["fp"]),
                "D", color=RED, markersize=7, label="as classified",
            )  # fmt: skip
        axes.legend(loc="lower left")
        return _svg(figure, "pr", "Precision-recall curve")


def reliability_chart(figures: DataFrame) -> str:
    """Observed share of AMF against stated confidence, and how many figures stand behind each point."""
    with mpl.rc_context(_STYLE):
        figure, axes = _square("mean confidence of the bin", "share of AMF observed")
        draw_reliability(axes, figures["label"].to_numpy(), {"as stated": figures["confidence"].to_numpy()})
        return _svg(figure, "reliability", "Reliability diagram")


def draw_reliability(axes: Axes, label: Any, confidences: Mapping[str, Any]) -> None:
    """A reliability diagram of one or two sets of confidences by name, each (N,) P(atypical)."""
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfectly calibrated")
    for (name, confidence), color in zip(confidences.items(), (BLUE, RED), strict=False):
        table = metrics.reliability(label, confidence)
        axes.vlines(table["confidence"], table["confidence"], table["atypical"], color=color, alpha=0.4)
        axes.plot(table["confidence"], table["atypical"], color=color, linewidth=1)
        axes.scatter(
            table["confidence"], table["atypical"], s=20 + 300 * table["count"] / len(label), color=color,
            zorder=3, label=f"{name}; larger with more figures",
        )  # fmt: skip
    axes.legend(loc="upper left", markerscale=0.6)


def threshold_chart(figures: DataFrame, chosen: dict[str, Any]) -> str:
    """Sensitivity, specificity and balanced accuracy over the threshold; best and chosen one marked."""
    curve = threshold_curve(figures["label"].to_numpy(), figures["confidence"].to_numpy())
    with mpl.rc_context(_STYLE):
        figure, axes = _square("threshold on confidence", "")
        lines = [
            ("sensitivity", RED, "--"),
            ("specificity", GREEN, "-."),
            ("balanced_accuracy", BLUE, "-"),
        ]
        for name, colour, style in lines:
            axes.plot(
                curve["threshold"], curve[name], color=colour, linestyle=style, linewidth=1.8,
                label=name.replace("_", " "),
            )  # fmt: skip
        best = chosen["best_threshold"]
        axes.plot(
            best, chosen["best_balanced_accuracy"], "*", color="black", markersize=11, label="best threshold"
        )
        low, high = chosen["highest_normal"], chosen["lowest_atypical"]
        if low is not None and high is not None and low < high:
            axes.axvline(
                (low + high) / 2, color="black", linestyle=":", linewidth=1.2, label="chosen threshold"
            )
        figure.legend(loc="outside lower center", ncols=2)
        return _svg(figure, "threshold", "Threshold curve")


def domains_chart(summary: dict[str, Any]) -> str:
    """Balanced accuracy, with interval, of every domain that has both classes, worst on top."""
    rows = []
    for name, interval in (
        (key, summary["intervals"][key]["balanced_accuracy"]) for key in summary["figures"]
    ):
        value = scores_of(summary, name)["balanced_accuracy"]
        if name.startswith("domain_") and value is not None:
            rows.append((value, name.removeprefix("domain_"), interval))
    rows.sort(reverse=True)
    overall = summary["aggregates"]["overall_balanced_accuracy"]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 1.1 + 0.32 * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(rows)), [row[0] for row in rows], height=0.62, color=BLUE, alpha=0.75)
        for k, (value, _, interval) in enumerate(rows):
            if interval is not None:
                axes.plot(interval, [k, k], color="black", linewidth=1.6, solid_capstyle="butt")
            axes.text(0.01, k, f"{value:.3f}", va="center", color="white", fontsize=9, fontweight="bold")
        axes.axvline(overall, color=RED, linestyle="--", linewidth=1.5, label=f"overall {overall:.3f}")
        axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1.2, label="chance")
        axes.set_yticks(
            range(len(rows)), ["\n".join(wrap(row[1], 22, max_lines=2, placeholder=" …")) for row in rows]
        )
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1)
        axes.set_xlabel("balanced accuracy, 95 % interval")
        figure.legend(loc="outside upper right", ncols=2)
        return _svg(figure, "domains", "Balanced accuracy by domain")


def _square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return figure, axes


def _svg(figure: Figure, name: str, title: str) -> str:
    """The figure as an SVG element that fills its container's width.

    The salt makes the output reproducible, and the ids of several charts on one page distinct.
    """
    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
            out, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
    text = out.getvalue().decode()
    element = text[text.index("<svg") :]
    element = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element, count=1)
    element = re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{name}-", element)
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return element.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
