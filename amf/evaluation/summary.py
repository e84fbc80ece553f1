"""All numbers of one evaluation in one dictionary: what `metrics.json` holds and the report shows."""

import math
from typing import Any

from pandas import DataFrame

from amf.evaluation import bootstrap, metrics
from amf.evaluation.predictions import Predictions
from amf.evaluation.threshold import confidence_notes, threshold_regret

GROUPS = {"domain": "", "species": "species: ", "tumor": "tumour: "}
"""Columns whose values are evaluated apart, and the words before a value."""


def summarise(
    predictions: Predictions, replicates: int, seed: int, other: Predictions | None = None
) -> dict[str, Any]:
    """Evaluate predictions, and compare them with others of the same figures.

    Returns
    -------
    JSON-ready: `results` (empty, as the organisers leave it) and `aggregates` are theirs, the rest is ours.

    Raises
    ------
    DataError : the two prediction sets hold different figures.
    """
    figures = predictions.figures
    label, confidence = figures["label"].to_numpy(), figures["confidence"].to_numpy()
    aggregates, domain_notes = metrics.aggregates(figures)
    parts = {"overall": figures}
    for column in GROUPS:
        if column in figures:
            parts |= {f"{column}_{name}": part for name, part in figures.groupby(column, sort=True)}
    summary = {
        "results": {},
        "aggregates": aggregates,
        "groups": {
            name: metrics.metrics_of(part)
            for name, part in parts.items()
            if name.startswith(("species_", "tumor_"))
        },
        "figures": {name: _counts(part) for name, part in parts.items()},
        "intervals": {
            "level": bootstrap.LEVEL,
            "replicates": replicates,
            "seed": seed,
            "resampled": bootstrap.resampled_unit(figures),
            **{name: bootstrap.intervals(part, replicates, seed) for name, part in parts.items()},
        },
        "calibration": metrics.calibration_error(label, confidence),
        "threshold": threshold_regret(figures),
        "notes": predictions.notes + confidence_notes(figures) + domain_notes,
    }
    if other is not None:
        summary["comparison"] = bootstrap.compare(predictions, other, replicates, seed)
    return summary


def _counts(figures: DataFrame) -> dict[str, int | None]:
    label, predicted = figures["label"].to_numpy(), figures["predicted"].to_numpy()
    return {
        "all": len(figures),
        "atypical": int(label.sum()),
        "normal": int(len(figures) - label.sum()),
        "slides": int(figures["slide"].nunique()) if "slide" in figures else None,
        **metrics.confusion(label, predicted),
    }


def as_text(summary: dict[str, Any]) -> str:
    """The summary as a table for the console: one line overall and one a domain."""
    rows = []
    for name, counts in summary["figures"].items():
        scores = {metric: decimals(value) for metric, value in scores_of(summary, name).items()}
        rows.append(
            {
                "figures": counts["all"],
                "AMF": counts["atypical"],
                "BA": scores["balanced_accuracy"],
                "95 % interval": span(summary["intervals"][name]["balanced_accuracy"]),
                "sens": scores["sensitivity"],
                "spec": scores["specificity"],
                "AUC": scores["roc_auc"],
                "": part_label(name),
            }
        )
    lines = [DataFrame(rows).to_string(index=False)]
    threshold, calibration = summary["threshold"], summary["calibration"]
    lines.append(
        f"best threshold {threshold['best_threshold']:.4f}: BA {threshold['best_balanced_accuracy']:.4f}, "
        f"regret {threshold['regret']:.4f}; calibration error "
        f"{calibration['expected_calibration_error']:.4f}, Brier score {calibration['brier_score']:.4f}"
    )
    if "comparison" in summary:
        comparison = summary["comparison"]
        for name, row in comparison.items():
            if name in ("other", "delong"):
                continue
            lines.append(
                f"{name} against {comparison['other']}: {row['difference']:+.4f} "
                f"({span(row['interval'], signed=True)}), p {p_value(row['p'])}"
            )
        lines.append(f"roc_auc by DeLong's test: p {p_value(comparison['delong']['p'])}")
    return "\n".join(lines + [f"note: {note}" for note in summary["notes"]])


def scores_of(summary: dict[str, Any], name: str) -> dict[str, float | None]:
    """The five metrics of one of the parts in `figures`; None where the class they rest on is absent."""
    aggregates, counts = summary["aggregates"] | summary["groups"], summary["figures"][name]
    if name == "overall":
        return {metric: aggregates[f"overall_{metric}"] for metric in metrics.METRICS}
    scores = dict(aggregates[name])
    if counts["atypical"] == 0:
        scores["sensitivity"] = scores["balanced_accuracy"] = None
    if counts["normal"] == 0:
        scores["specificity"] = scores["balanced_accuracy"] = None
    return scores


def part_label(name: str) -> str:
    """What a reader calls a part: a domain by its name, the others with their kind before it."""
    for column, words in GROUPS.items():
        if name.startswith(f"{column}_"):
            return words + name.removeprefix(f"{column}_")
    return name


def decimals(value: float | None) -> str:
    """A score for a reader's eye: four digits, a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def span(interval: list[float] | None, signed: bool = False) -> str:
    """An interval for a reader's eye."""
    if interval is None:
        return "–"
    low, high = interval
    return f"{low:+.3f} to {high:+.3f}" if signed else f"{low:.3f}–{high:.3f}"


def p_value(p: float | None) -> str:
    """A p-value for a reader's eye."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
