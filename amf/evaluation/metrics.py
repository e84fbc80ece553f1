"""The organisers' numbers, and what they do not give: calibration and the cost of the threshold."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.metrics import confusion_matrix_at_thresholds, roc_auc_score

METRICS = ["sensitivity", "specificity", "balanced_accuracy", "accuracy", "roc_auc"]


def aggregates(figures: DataFrame) -> tuple[dict[str, Any], list[str]]:
    """The organisers' scores under the organisers' names.

    Parameters
    ----------
    figures : table of amf.evaluation.predictions; both classes present.

    Returns
    -------
    The scores: `overall_<metric>`, and one dictionary `domain_<name>` a domain where domains are known; and
    notes on the domains of one class. There the organisers' recall of the absent class is 0, kept here, and
    the ROC AUC, which they cannot compute, is None.
    """
    scores: dict[str, Any] = {f"overall_{name}": value for name, value in _scores(figures).items()}
    notes = []
    if "domain" in figures:
        for domain, part in figures.groupby("domain", sort=True):
            scores[f"domain_{domain}"] = _scores(part)
            if part["label"].nunique() == 1:
                absent, recall = (
                    ("atypical", "sensitivity") if part["label"].iloc[0] == 0 else ("normal", "specificity")
                )
                notes.append(
                    f"Domain {domain} has no {absent} figure: its ROC AUC is undefined, and its {recall} of "
                    "0 and balanced accuracy are the organisers' convention, not a result."
                )
    return scores, notes


def _scores(figures: DataFrame) -> dict[str, float | None]:
    label, predicted = figures["label"].to_numpy(), figures["predicted"].to_numpy()
    counts = confusion(label, predicted)
    sensitivity = counts["tp"] / max(counts["tp"] + counts["fn"], 1)
    specificity = counts["tn"] / max(counts["tn"] + counts["fp"], 1)
    one_class = label.min() == label.max()
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": (counts["tp"] + counts["tn"]) / len(label),
        "roc_auc": None if one_class else float(roc_auc_score(label, figures["confidence"])),
    }


def confusion(label: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, int]:
    """Counts of the four outcomes; AMF is the positive class.

    Parameters
    ----------
    label, predicted : (N,) 1 for AMF, 0 for NMF.
    """
    return {
        "tp": int(np.sum((label == 1) & (predicted == 1))),
        "fn": int(np.sum((label == 1) & (predicted == 0))),
        "fp": int(np.sum((label == 0) & (predicted == 1))),
        "tn": int(np.sum((label == 0) & (predicted == 0))),
    }


def reliability(label: NDArray[np.int64], confidence: NDArray[np.float64], bins: int = 10) -> DataFrame:
    """Stated against observed frequency of AMF in bins of equal width over [0, 1].

    Returns
    -------
    One row a bin that holds figures: count, confidence (mean) and atypical (share of AMF).
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)  # 1.0 belongs to the last bin
    return (
        DataFrame({"bin": bin_of, "confidence": confidence, "atypical": label.astype(float)})
        .groupby("bin")
        .agg(count=("atypical", "size"), confidence=("confidence", "mean"), atypical=("atypical", "mean"))
    )


def calibration(
    label: NDArray[np.int64], confidence: NDArray[np.float64], bins: int = 10
) -> dict[str, float]:
    """Expected calibration error (mean gap of the reliability bins, weighted by count) and Brier score.

    The bins run over P(atypical), not over the confidence in the chosen class.
    """
    table = reliability(label, confidence, bins)
    gaps = (table["confidence"] - table["atypical"]).abs()
    return {
        "expected_calibration_error": float((gaps * table["count"]).sum() / len(label)),
        "bins": bins,
        "brier_score": float(np.mean((confidence - label) ** 2)),
    }


def threshold_curve(label: NDArray[np.int64], confidence: NDArray[np.float64]) -> DataFrame:
    """What every threshold would give, by "atypical iff confidence ≥ threshold".

    Returns
    -------
    threshold (each distinct confidence, falling), sensitivity, specificity, balanced_accuracy.
    """
    tn, fp, fn, tp, thresholds = confusion_matrix_at_thresholds(label, confidence)
    sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
    return DataFrame(
        {
            "threshold": thresholds,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
        }
    )


def threshold_regret(figures: DataFrame) -> tuple[dict[str, float | None], list[str]]:
    """The balanced accuracy the same confidences would reach at their best threshold, and what is lost.

    Returns
    -------
    `highest_normal` and `lowest_atypical` confidence, between which the chosen threshold lies;
    `best_threshold`, `best_balanced_accuracy` and `regret` = best - achieved; and a note where no single
    threshold can have led to the given classes.
    """
    label, predicted = figures["label"].to_numpy(), figures["predicted"].to_numpy()
    confidence = figures["confidence"].to_numpy()
    curve = threshold_curve(label, confidence)
    best = curve.iloc[int(curve["balanced_accuracy"].argmax())]
    achieved = _scores(figures)["balanced_accuracy"]
    highest_normal = confidence[predicted == 0].max(initial=-math.inf)
    lowest_atypical = confidence[predicted == 1].min(initial=math.inf)
    notes = []
    if highest_normal >= lowest_atypical:
        chosen = np.where(predicted == 1, confidence, 1 - confidence)
        notes.append(
            f"The classes do not follow from one threshold (normal up to {highest_normal:.4g}, atypical from "
            f"{lowest_atypical:.4g}): confidence should be P(atypical) whichever class wins. Read as the "
            f"confidence in the chosen class, the ROC AUC would be {roc_auc_score(label, chosen):.4f}."
        )
    assert achieved is not None
    return {
        "highest_normal": float(highest_normal) if np.isfinite(highest_normal) else None,
        "lowest_atypical": float(lowest_atypical) if np.isfinite(lowest_atypical) else None,
        "best_threshold": float(best["threshold"]),
        "best_balanced_accuracy": float(best["balanced_accuracy"]),
        "regret": float(best["balanced_accuracy"] - achieved),
    }, notes
