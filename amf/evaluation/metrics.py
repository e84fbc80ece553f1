"""The organisers' numbers, and what they do not give: how well the confidences are calibrated."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score, roc_auc_score

BINS = 10
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
    scores: dict[str, Any] = {f"overall_{name}": value for name, value in metrics_of(figures).items()}
    notes = []
    if "domain" in figures:
        for domain, part in figures.groupby("domain", sort=True):
            scores[f"domain_{domain}"] = metrics_of(part)
            if part["label"].nunique() == 1:
                absent, recall = (
                    ("atypical", "sensitivity") if part["label"].iloc[0] == 0 else ("normal", "specificity")
                )
                notes.append(
                    f"Domain {domain} has no {absent} figure: its ROC AUC is undefined, and its {recall} of "
                    "0 and balanced accuracy are the organisers' convention, not a result."
                )
    return scores, notes


def metrics_of(figures: DataFrame) -> dict[str, float | None]:
    """METRICS of some figures, by the organisers' conventions for an absent class (see `aggregates`)."""
    label, predicted = figures["label"], figures["predicted"]
    sensitivity, specificity = recalls(label, predicted, absent=0)
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": float(accuracy_score(label, predicted)),
        "roc_auc": float(roc_auc_score(label, figures["confidence"])) if label.nunique() == 2 else None,
    }


def recalls(label: ArrayLike, predicted: ArrayLike, absent: float = np.nan) -> tuple[float, float]:
    """AMF recall (sensitivity) and NMF recall (specificity), whose mean is the balanced accuracy.

    Parameters
    ----------
    label, predicted : (N,) 1 for AMF, 0 for NMF.
    absent : the recall of a class without figures.
    """
    amf, nmf = recall_score(label, predicted, labels=[1, 0], average=None, zero_division=absent)
    return float(amf), float(nmf)


def confusion(label: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, int]:
    """Counts of the four outcomes; AMF is the positive class.

    Parameters
    ----------
    label, predicted : (N,) 1 for AMF, 0 for NMF.
    """
    tn, fp, fn, tp = confusion_matrix(label, predicted, labels=[0, 1]).ravel().tolist()
    return {"tp": tp, "fn": fn, "fp": fp, "tn": tn}


def reliability(label: NDArray[np.int64], confidence: NDArray[np.float64]) -> DataFrame:
    """Stated against observed frequency of AMF in bins of equal width over [0, 1].

    Returns
    -------
    One row a bin that holds figures: count, confidence (mean) and atypical (share of AMF).
    """
    bin_of = np.minimum((confidence * BINS).astype(int), BINS - 1)  # 1.0 belongs to the last bin
    return (
        DataFrame({"bin": bin_of, "confidence": confidence, "atypical": label.astype(float)})
        .groupby("bin")
        .agg(count=("atypical", "size"), confidence=("confidence", "mean"), atypical=("atypical", "mean"))
    )


def calibration_error(label: NDArray[np.int64], confidence: NDArray[np.float64]) -> dict[str, float]:
    """Expected calibration error (mean gap of the reliability bins, weighted by count) and Brier score.

    The bins run over P(atypical), not over the confidence in the chosen class.
    """
    table = reliability(label, confidence)
    gaps = (table["confidence"] - table["atypical"]).abs()
    return {
        "expected_calibration_error": float((gaps * table["count"]).sum() / len(label)),
        "bins": BINS,
        "brier_score": float(np.mean((confidence - label) ** 2)),
    }
