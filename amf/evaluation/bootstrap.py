"""How sure the numbers are: intervals by resampling, and two prediction sets compared on the same figures.

What is resampled are slides where they are known, since figures of one slide resemble each other, and
single figures otherwise. Units that hold an AMF and units that hold none are resampled apart, so that every
replicate has as many of either as the data.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, factorize
from scipy.stats import norm, rankdata

from amf.errors import DataError
from amf.evaluation.metrics import METRICS
from amf.evaluation.predictions import Predictions

LEVEL = 0.95
_COMPARED = ("balanced_accuracy", "roc_auc", "mean_domain_balanced_accuracy")
_CHUNK = 200  # replicates at a time: 200 x 6,000 figures are 10 MB


def intervals(figures: DataFrame, replicates: int, seed: int) -> dict[str, list[float] | None]:
    """Percentile bootstrap intervals of the organisers' metrics.

    Returns
    -------
    [low, high] for each of METRICS at LEVEL. None for all where fewer than two slides (figures) hold an AMF,
    or fewer than two an NMF: nothing would vary. Replicates that happen to have lost a class are left out of
    the metrics they leave undefined.
    """
    if not _varies(figures):
        return dict.fromkeys(METRICS)
    scorer = weighted_scorer(figures)
    drawn = np.concatenate([scorer(weights) for weights in resampled(figures, replicates, seed)])  # (R, 5)
    return {name: _percentiles(drawn[:, k]) for k, name in enumerate(METRICS)}


def weighted_scorer(figures: DataFrame) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A function from figure weights (R, N) to the metrics (R, 5) in the order of METRICS.

    A weight counts how often a figure was drawn. The AUC is the share of AMF-NMF pairs in the right order,
    ties counting one half. A metric without its class is NaN.
    """
    order = np.argsort(figures["confidence"].to_numpy(), kind="stable")
    confidence = figures["confidence"].to_numpy()[order]
    label, predicted = figures["label"].to_numpy()[order], figures["predicted"].to_numpy()[order]
    outcomes = np.stack(
        [label * predicted, label * (1 - predicted), (1 - label) * predicted, (1 - label) * (1 - predicted)],
        axis=1,
    ).astype(float)  # (N, 4): tp, fn, fp, tn
    ties = np.flatnonzero(np.diff(confidence, prepend=-1.0))  # where each distinct confidence begins

    def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        weights = weights[:, order]
        tp, fn, fp, tn = (weights @ outcomes).T
        positives = np.add.reduceat(weights * label, ties, axis=1)  # (R, distinct)
        negatives = np.add.reduceat(weights * (1 - label), ties, axis=1)
        below = np.cumsum(negatives, axis=1) - negatives / 2
        with np.errstate(invalid="ignore"):
            sensitivity, specificity = tp / (tp + fn), tn / (tn + fp)
            auc = (positives * below).sum(axis=1) / ((tp + fn) * (tn + fp))
            accuracy = (tp + tn) / weights.sum(axis=1)
        return np.stack([sensitivity, specificity, (sensitivity + specificity) / 2, accuracy, auc], axis=1)

    return score


def resampled_unit(figures: DataFrame) -> str:
    """What one draw of the bootstrap takes: "slides" or "figures"."""
    return "slides" if "slide" in figures else "figures"


def _units(figures: DataFrame) -> NDArray[np.int64]:
    """The unit that each figure belongs to: (N,) numbers from 0."""
    if "slide" in figures:
        return factorize(figures["slide"])[0].astype(np.int64)
    return np.arange(len(figures))


def _strata(figures: DataFrame) -> list[NDArray[np.int64]]:
    """The units with an AMF and those without, to be resampled apart; a lone one joins the rest."""
    atypical = np.bincount(_units(figures), weights=figures["label"]) > 0
    strata = [np.flatnonzero(atypical), np.flatnonzero(~atypical)]
    if min(len(stratum) for stratum in strata) < 2:
        return [np.arange(len(atypical))]
    return strata


def _varies(figures: DataFrame) -> bool:
    """Whether two units or more hold an AMF, and two or more an NMF."""
    unit_of = _units(figures)
    return all(len(np.unique(unit_of[figures["label"] == label])) >= 2 for label in (0, 1))


def resampled(figures: DataFrame, replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Weights of the figures in each replicate, some rows (R, N) at a time, `replicates` in all."""
    unit_of, strata = _units(figures), _strata(figures)
    units = int(unit_of.max()) + 1
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, _CHUNK):
        rows = min(_CHUNK, replicates - start)
        drawn = np.concatenate(
            [stratum[generator.integers(0, len(stratum), (rows, len(stratum)))] for stratum in strata], axis=1
        )  # (rows, units)
        drawn += np.arange(rows)[:, None] * units
        weights = np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units)
        yield weights[:, unit_of].astype(float)  # (rows, N)


def _percentiles(values: NDArray[np.float64]) -> list[float] | None:
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]


def compare(first: Predictions, second: Predictions, replicates: int, seed: int) -> dict[str, Any]:
    """Compare two prediction sets of the same figures; differences are first minus second.

    Returns
    -------
    `balanced_accuracy` and `roc_auc` of all figures pooled, and where domains are known
    `mean_domain_balanced_accuracy` over the domains with both classes: first, second, difference, interval
    and two-sided p by the paired bootstrap; `delong`: z and p of the ROC AUC's difference, figures taken as
    independent.

    Raises
    ------
    DataError : the two do not hold the same figures with the same truth.
    """
    figures, other = first.figures, _aligned(first, second)
    score_first, score_second = _compared_scorer(figures), _compared_scorer(other)
    once = np.ones((1, len(figures)))
    result: dict[str, Any] = {"other": str(second.source)}
    differences = None
    if _varies(figures):
        differences = np.concatenate(
            [score_first(weights) - score_second(weights) for weights in resampled(figures, replicates, seed)]
        )  # (R, 2 or 3)
    for k, (a, b) in enumerate(
        zip(score_first(once)[0].tolist(), score_second(once)[0].tolist(), strict=True)
    ):
        row: dict[str, Any] = {"first": a, "second": b, "difference": a - b, "interval": None, "p": None}
        if differences is not None:
            drawn = differences[~np.isnan(differences[:, k]), k]
            # One is added to either count: no finite number of replicates proves p = 0.
            tail = min(np.sum(drawn <= 0), np.sum(drawn >= 0)) + 1
            row |= {"interval": _percentiles(drawn), "p": float(min(1.0, 2 * tail / (len(drawn) + 1)))}
        result[_COMPARED[k]] = row
    z, p = delong(
        figures["label"].to_numpy(), figures["confidence"].to_numpy(), other["confidence"].to_numpy()
    )
    result["delong"] = {"z": z, "p": p}
    return result


def _compared_scorer(figures: DataFrame) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A function from figure weights (R, N) to the scores (R, 2 or 3) in the order of _COMPARED."""
    whole = weighted_scorer(figures)
    domains = [
        (rows, weighted_scorer(figures.iloc[rows]))
        for rows in (figures.groupby("domain").indices.values() if "domain" in figures else ())
        if figures["label"].iloc[rows].nunique() == 2
    ]
    accuracy, auc = METRICS.index("balanced_accuracy"), METRICS.index("roc_auc")

    def score(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        columns = list(whole(weights)[:, [accuracy, auc]].T)
        if domains:
            # A replicate without one of the domains' classes is the mean over the other domains.
            by_domain = [scorer(weights[:, rows])[:, accuracy] for rows, scorer in domains]
            columns.append(np.nanmean(by_domain, axis=0))
        return np.stack(columns, axis=1)

    return score


def _aligned(first: Predictions, second: Predictions) -> DataFrame:
    """The figures of `second` in the order of `first`."""
    place = ["image", "page"]  # of two figures at one place, the first is compared with the first
    numbered, other = (
        given.figures.assign(again=given.figures.groupby(place, dropna=False).cumcount())
        for given in (first, second)
    )
    merged = numbered[[*place, "again"]].merge(other, how="left", on=[*place, "again"])
    if len(merged) != len(second.figures) or merged["label"].isna().any():
        raise DataError(
            f"{second.source} holds other figures than {first.source} "
            f"({len(second.figures)} and {len(first.figures)}), expected the same ones to compare"
        )
    if (merged["label"].to_numpy() != first.figures["label"].to_numpy()).any():
        raise DataError(f"{second.source} has other labels than {first.source}, expected the same truth")
    return merged


def delong(
    label: NDArray[np.int64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[float | None, float | None]:
    """Test two correlated ROC AUCs for a difference (DeLong, DeLong and Clarke-Pearson, Biometrics 1988).

    The structural components come from midranks (Sun and Xu, IEEE Signal Processing Letters 2014).

    Parameters
    ----------
    label : (N,) 1 for AMF, 0 for NMF.
    first, second : (N,) scores of the same figures.

    Returns
    -------
    z of AUC(first) - AUC(second), and the two-sided p. Both are None with fewer than two figures of a class.
    Where the difference has no variance, z is None and p is 1 if the AUCs are equal, else 0.
    """
    atypical = label == 1
    if min(atypical.sum(), (~atypical).sum()) < 2:
        return None, None
    components = [_components(scores[atypical], scores[~atypical]) for scores in (first, second)]
    of_amf, of_nmf = (one - other for one, other in zip(*components, strict=True))
    variance = np.var(of_amf, ddof=1) / len(of_amf) + np.var(of_nmf, ddof=1) / len(of_nmf)
    difference = of_amf.mean()
    if variance == 0:
        return None, 1.0 if difference == 0 else 0.0
    z = float(difference / np.sqrt(variance))
    return z, float(2 * norm.sf(abs(z)))


def _components(amf: NDArray[np.float64], nmf: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """The share of NMF that each AMF outscores (M,), of AMF that are above each NMF (N,); a tie is half."""
    ranks = rankdata([*amf, *nmf])
    return [
        (ranks[: len(amf)] - rankdata(amf)) / len(nmf),
        1 - (ranks[len(amf) :] - rankdata(nmf)) / len(amf),
    ]
