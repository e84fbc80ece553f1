"""What out-of-fold predictions are worth: scores by fold and group, runs ranked and compared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pandas import DataFrame, concat
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from amf.errors import DataError
from amf.evaluation import bootstrap
from amf.evaluation.predictions import Predictions
from amf.evaluation.summary import p_value, span
from amf.evaluation.threshold import fit_threshold
from amf.experiments.paper import THRESHOLD, paper_metrics
from amf.experiments.record import MEAN, STD, with_mean_and_std

REPLICATES = 2000
MAX_SCALE = 20.0
"""Bound of temperature and of its inverse: logits that separate the classes would have an infinite scale."""
DEFINITIONS = """BA is the mean of AMF recall and NMF recall. "at 0.5": atypical from sigmoid(logit) = 0.5 on,
as in the paper. "fitted": from the threshold of greatest BA on the pooled out-of-fold predictions of the
*other* folds (median over 1,000 bootstrap resamples), so a fold's own labels never choose its threshold.
Mean and std (n − 1) count every fold alike, whatever its size. Leaving one domain out, a fold is a domain.
"""


def called(predictions: DataFrame, calibrated: bool = False) -> DataFrame:
    """The predictions as figures to evaluate, each called at the threshold that the other folds choose.

    That is chosen on the other folds' out-of-fold predictions: no network has seen the figures it is chosen
    on, and a fold's own labels take no part in choosing its own.

    Parameters
    ----------
    predictions : fold, label, logit and where known slide, one row a figure.
    calibrated : whether the other folds choose temperature and bias, too; else these are 1 and 0.

    Returns
    -------
    The same rows and page, confidence, threshold, predicted (0 or 1).
    """
    parts = []
    for _, own in predictions.groupby("fold"):
        others = predictions.drop(index=own.index)
        temperature, bias = fit_scale_and_bias(others["logit"], others["label"]) if calibrated else (1.0, 0.0)
        own, others = (
            frame.assign(page=0, confidence=expit(frame["logit"] / temperature + bias))
            for frame in (own, others)
        )
        own["threshold"] = fit_threshold(others).value
        parts.append(own.assign(predicted=(own["confidence"] >= own["threshold"]).astype("int64")))
    return concat(parts).loc[predictions.index]


def fit_scale_and_bias(logits: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Find the temperature T and the bias b of least negative log likelihood of sigmoid(logit / T + b).

    Platt scaling (Platt, Advances in Large Margin Classifiers, 1999; Guo et al., ICML 2017). Training that
    draws both classes equally often overstates P(atypical); only the bias can take that back. T is kept
    between 1 / MAX_SCALE and MAX_SCALE, so that it never turns the order around.

    Parameters
    ----------
    logits, labels : (N,), labels 0 or 1 (AMF), both present.
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.int64)
    free = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], y).coef_.item()
    scale = float(np.clip(free, 1 / MAX_SCALE, MAX_SCALE))
    # Under the best bias for a scale, the mean confidence is the share of AMF.
    reach = scale * np.abs(z).max() + 40
    return 1 / scale, float(brentq(lambda bias: expit(scale * z + bias).mean() - y.mean(), -reach, reach))


def score_domains(figures: DataFrame) -> DataFrame:
    """Score each fold, which is a domain in LODO, of `called` figures.

    Returns
    -------
    One row a fold: n, AMF (counts), AUC, BA, AMF recall and NMF recall "at 0.5", threshold, and the same
    three "fitted".
    """
    rows = {fold: _scores(own, threshold=own["threshold"].iloc[0]) for fold, own in figures.groupby("fold")}
    return DataFrame.from_dict(rows, orient="index")


def score_groups(figures: DataFrame) -> DataFrame:
    """Score species and tumours of `called` figures, pooled over their domains.

    Returns
    -------
    One row a species and a tumour: the columns of `score_domains` but the threshold, domains, and as in the
    paper the lowest and highest BA at 0.5 over its domains.
    """
    by_fold, rows = score_domains(figures)[f"BA at {THRESHOLD}"], {}
    for column, word in (("species", "species"), ("tumor", "tumour")):
        for name, own in figures.groupby(figures[column].fillna("not published")):
            accuracies = by_fold[own["fold"].unique()]
            rows[f"{word}: {name}"] = {
                "domains": own["domain"].nunique(),
                **_scores(own),
                f"lowest domain's BA at {THRESHOLD}": accuracies.min(),
                f"highest domain's BA at {THRESHOLD}": accuracies.max(),
            }
    return DataFrame.from_dict(rows, orient="index")


def _scores(figures: DataFrame, **between: float) -> dict[str, Any]:
    at_half = paper_metrics(figures["confidence"], figures["label"])
    fitted = paper_metrics(figures["predicted"], figures["label"])
    names = ("BA", "AMF recall", "NMF recall")
    return {
        "n": len(figures),
        "AMF": int(figures["label"].sum()),
        "AUC": at_half["AUC"],
        **{f"{name} at {THRESHOLD}": at_half[name] for name in names},
        **between,
        **{f"{name} fitted": fitted[name] for name in names},
    }


def ranking(summaries: Mapping[str, DataFrame]) -> DataFrame:
    """LODO runs, best first: by the mean over domains of the BA at the other domains' threshold.

    Parameters
    ----------
    summaries : by run, see `score_domains`.
    """
    rows = {}
    for name, summary in summaries.items():
        scores = summary[["BA fitted", f"BA at {THRESHOLD}", "AUC"]].agg([MEAN, STD])
        rows[name] = {f"{column}: {row}": scores[column][row] for column in scores for row in scores.index}
    table = DataFrame.from_dict(rows, orient="index")
    return table.sort_values(f"BA fitted: {MEAN}", ascending=False, kind="stable")


def compare_lodo(a: DataFrame, b: DataFrame) -> tuple[DataFrame, str]:
    """Two recipes on the same held-out figures: the difference B − A, paired, at their fitted thresholds.

    Parameters
    ----------
    a, b : out-of-fold predictions of the same figures.

    Returns
    -------
    One row a fold with A, B and B − A of each score, the rows mean and std below; and sentences with the
    intervals of `bootstrap.compare`, which resamples slides. The thresholds are taken as given.

    Raises
    ------
    DataError : the figures differ.
    """
    a, b = (frame.sort_values("image").reset_index(drop=True) for frame in (a, b))
    if any(a[key].tolist() != b[key].tolist() for key in ("image", "fold", "slide", "label")):
        raise DataError(f"the two runs hold {len(a)} and {len(b)} figures that are not the same ones")
    figures = [called(frame) for frame in (a, b)]
    first, second = (score_domains(frame) for frame in figures)
    names = [f"BA at {THRESHOLD}", "BA fitted", "AUC"]
    gains = second[names] - first[names]
    columns = [
        part[name].rename(f"{name}: {label}")
        for name in names
        for label, part in (("A", first), ("B", second), ("B − A", gains))
    ]
    difference = gains["BA fitted"]
    lines = [
        f"B − A by domain, BA at the fitted threshold: {difference.mean():+.3f} ± {difference.std():.3f}, "
        f"B better in {int((difference > 0).sum())} of {len(difference)}."
    ]
    ours, theirs = (Predictions(Path(name), frame) for name, frame in zip("BA", figures[::-1], strict=True))
    found = bootstrap.compare(ours, theirs, REPLICATES, seed=0)
    for name, words in (
        ("mean_domain_balanced_accuracy", "mean over domains of the BA at the fitted thresholds"),
        ("balanced_accuracy", "BA of all figures pooled, at the fitted thresholds"),
        ("roc_auc", "AUC of all figures pooled"),
    ):
        row = found[name]
        lines.append(
            f"B − A, {words}: {row['difference']:+.3f} (95 % interval {span(row['interval'], signed=True)}, "
            f"p {p_value(row['p'])}; {bootstrap.resampled_unit(a)} resampled {REPLICATES} times)."
        )
    return with_mean_and_std(concat([first[["n", "AMF"]], *columns], axis=1)), "\n\n".join(lines)


def threshold_costs(predictions: DataFrame, pooled: float) -> DataFrame:
    """What a threshold picked on one domain alone costs the figures of all the others.

    Parameters
    ----------
    predictions : domain, slide, label, confidence; pooled : the threshold of all domains together.

    Returns
    -------
    One row a domain: n, AMF, its threshold and interval, the BA of its own figures there, the BA of the
    others' figures there and at the pooled threshold, and the cost = the latter minus the former.
    """

    def accuracy(figures: DataFrame, threshold: float) -> float:
        return paper_metrics(figures["confidence"], figures["label"], threshold)["BA"]

    rows = {}
    for domain, own in predictions.groupby("domain"):
        others, picked = predictions[predictions["domain"] != domain], fit_threshold(own)
        there, together = accuracy(others, picked.value), accuracy(others, pooled)
        rows[domain] = {
            "n": len(own),
            "AMF": int(own["label"].sum()),
            "threshold": picked.value,
            "95 % interval": span([picked.low, picked.high]),
            "own BA there": accuracy(own, picked.value),
            "others' BA there": there,
            "others' BA at the pooled threshold": together,
            "cost": together - there,
        }
    return DataFrame.from_dict(rows, orient="index")
