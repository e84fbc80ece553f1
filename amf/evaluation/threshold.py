"""The threshold: what each would give, which is best, and what the one in use costs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.metrics import confusion_matrix_at_thresholds, roc_auc_score

from amf.evaluation.bootstrap import resampled
from amf.evaluation.metrics import metrics_of


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


def threshold_regret(figures: DataFrame) -> dict[str, float | None]:
    """The balanced accuracy the same confidences would reach at their best threshold, and what is lost.

    Returns
    -------
    `highest_normal` and `lowest_atypical` confidence, between which the chosen threshold lies;
    `best_threshold`, `best_balanced_accuracy` and `regret` = best - achieved.
    """
    curve = threshold_curve(figures["label"].to_numpy(), figures["confidence"].to_numpy())
    best = curve.iloc[int(curve["balanced_accuracy"].argmax())]
    achieved = metrics_of(figures)["balanced_accuracy"]
    assert achieved is not None
    normal, atypical = (figures.loc[figures["predicted"] == label, "confidence"] for label in (0, 1))
    return {
        "highest_normal": float(normal.max()) if len(normal) else None,
        "lowest_atypical": float(atypical.min()) if len(atypical) else None,
        "best_threshold": float(best["threshold"]),
        "best_balanced_accuracy": float(best["balanced_accuracy"]),
        "regret": float(best["balanced_accuracy"] - achieved),
    }


def confidence_notes(figures: DataFrame) -> list[str]:
    """A sentence where the confidences seem to mean something else than P(atypical)."""
    label, confidence = figures["label"], figures["confidence"]
    auc = roc_auc_score(label, confidence)
    of_class = roc_auc_score(label, confidence.where(figures["predicted"] == 1, 1 - confidence))
    given = [confidence[figures["predicted"] == predicted] for predicted in (0, 1)]
    one_threshold = given[0].max() < given[1].min()  # False where a class is never given
    if of_class > max(auc, 0.5) and not one_threshold:
        return [
            f"The ROC AUC is {auc:.4f}; it would be {of_class:.4f} with the confidences read as those in the "
            "chosen class. Expected P(atypical), whichever class wins."
        ]
    if auc < 0.5:
        return [f"The ROC AUC is {auc:.4f}, below 0.5: labels or confidences may be turned round."]
    return []


@dataclass(frozen=True)
class Threshold:
    """A threshold on the confidence and the 95 % interval of its bootstrap distribution."""

    value: float
    low: float
    high: float


def fit_threshold(figures: DataFrame, *, resamples: int = 1000) -> Threshold:
    """Find the threshold of greatest balanced accuracy, bagged.

    The single best cut of a few hundred figures hangs on a few of them and moves test balanced accuracy
    by points. So the best cut of each bootstrap resample is taken, and their median is the threshold: the
    same criterion, less noise. Slides are resampled where they are known (see amf.evaluation.bootstrap).

    Parameters
    ----------
    figures : label (0 or 1, both present), confidence = P(atypical), and where known slide.

    Raises
    ------
    ValueError : all figures are of one class.
    """
    counts = figures["label"].value_counts()
    if len(counts) < 2:
        raise ValueError(f"all {counts.sum()} figures are of one class, expected AMF and NMF")
    known = [name for name in ("confidence", "label", "slide") if name in figures]
    figures = figures.sort_values(known)  # so that their order decides nothing
    best = np.concatenate([best_cuts(figures, weights) for weights in resampled(figures, resamples, seed=0)])
    low, value, high = np.nanquantile(best, [0.025, 0.5, 0.975])
    return Threshold(float(value), float(low), float(high))


def best_cuts(figures: DataFrame, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cut of greatest balanced accuracy under each row of weights (R, N): (R,), NaN without a class.

    Cuts lie midway between neighbouring confidences; of equally good ones the middle one is taken.

    Parameters
    ----------
    figures : label and confidence, N rows in the order of their confidence.
    """
    confidence, label = figures["confidence"].to_numpy(np.float64), figures["label"].to_numpy(np.float64)
    values, first = np.unique(confidence, return_index=True)
    cuts = np.concatenate([values[:1] / 2, (values[1:] + values[:-1]) / 2, (values[-1:] + 1) / 2])  # (K + 1,)
    missed, spared = (
        np.pad(np.cumsum(np.add.reduceat(weights * of_class, first, axis=1), axis=1), ((0, 0), (1, 0)))
        for of_class in (label, 1 - label)
    )  # weight of the AMF, of the NMF below each cut: (R, K + 1)
    with np.errstate(invalid="ignore"):
        accuracy = (1 - missed / missed[:, -1:] + spared / spared[:, -1:]) / 2
    best = accuracy >= accuracy.max(axis=1, keepdims=True) - 1e-12
    middle = (np.cumsum(best, axis=1) > best.sum(axis=1, keepdims=True) // 2).argmax(axis=1)
    return np.where(np.isnan(accuracy[:, 0]), np.nan, cuts[middle])
