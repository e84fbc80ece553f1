"""The paper's columns for a set of predictions, and how they are averaged and printed."""

import numpy as np
from numpy.typing import ArrayLike
from pandas import DataFrame, Series
from scipy.special import expit
from sklearn.metrics import f1_score, recall_score, roc_auc_score

PAPER_THRESHOLD = 0.5
MEAN, STD = "mean", "std"


def scores(confidences: ArrayLike, labels: ArrayLike, threshold: float = PAPER_THRESHOLD) -> dict[str, float]:
    """BA, F1, AUC, AMF recall and NMF recall (paper, Table 1); NaN where a class it needs is absent.

    Parameters
    ----------
    confidences : (N,) P(atypical); labels : (N,) 0 or 1 (AMF).
    threshold : a figure is called atypical from here on.
    """
    p, y = np.asarray(confidences, np.float64), np.asarray(labels).astype(bool)
    called = p >= threshold
    amf, nmf = (float(recall_score(y == c, called == c)) if (y == c).any() else np.nan for c in (True, False))
    both = bool(y.any() and not y.all())
    return {
        "BA": (amf + nmf) / 2,
        "F1": float(f1_score(y, called, zero_division=0)) if y.any() else np.nan,
        "AUC": float(roc_auc_score(y, p)) if both else np.nan,
        "AMF recall": amf,
        "NMF recall": nmf,
    }


def confidences_of(predictions: DataFrame) -> "Series[float]":
    """sigmoid(logit): P(atypical) before any temperature."""
    return Series(expit(predictions["logit"].to_numpy(np.float64)), index=predictions.index)


def with_mean_and_std(rows: DataFrame) -> DataFrame:
    """`rows` and below them their mean and sample standard deviation (n − 1), each row counting alike."""
    numbers = rows.loc[:, [kind.kind == "f" for kind in rows.dtypes]]
    summary = DataFrame({MEAN: numbers.mean(), STD: numbers.std()}).T
    return DataFrame({name: list(rows[name]) + list(summary.get(name, ["", ""])) for name in rows},
                     index=[*rows.index, MEAN, STD])  # fmt: skip


def markdown(table: DataFrame, first: str) -> str:
    """A Markdown table; `first` heads the index; fractions with three digits."""
    lines = ["| " + " | ".join([first, *map(str, table.columns)]) + " |", "|---" * (table.shape[1] + 1) + "|"]
    for name, row in zip(table.index, table.itertuples(index=False), strict=True):
        lines.append("| " + " | ".join([str(name), *map(_cell, row)]) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "–" if np.isnan(value) else f"{value:.3f}"
