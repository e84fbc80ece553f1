"""Scale, bias and threshold from predictions on figures that the model never trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """A threshold on the confidence and the 95 % interval of its bootstrap distribution."""

    value: float
    low: float
    high: float


def fit_scale_and_bias(logits: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Find the temperature T and the bias b of least negative log likelihood of sigmoid(logit / T + b).

    Platt scaling (Platt, Advances in Large Margin Classifiers, 1999; Guo et al., ICML 2017). Training that
    draws both classes equally often overstates P(atypical); only the bias can take that back. T is searched
    between 1/20 and 20, b between -20 and 20.

    Parameters
    ----------
    logits, labels : (N,), labels 0 or 1 (AMF).
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)

    def loss_and_slope(parameters: Array) -> tuple[float, Array]:
        scale, bias = parameters
        shifted = scale * z + bias
        error = expit(shifted) - y
        slope = np.array([np.mean(error * z), np.mean(error)])
        return float(np.mean(np.logaddexp(0, shifted) - y * shifted)), slope

    bounds = [(1 / 20, 20), (-20, 20)]
    exact = {"ftol": 1e-15, "gtol": 1e-9}  # the default tolerance would stop at four digits
    found = minimize(loss_and_slope, [1.0, 0.0], jac=True, bounds=bounds, options=exact)
    scale, bias = found.x.tolist()
    return 1 / scale, bias


def fit_threshold(
    confidences: ArrayLike, labels: ArrayLike, *, resamples: int = 1000, seed: int = 0
) -> Threshold:
    """Find the threshold of greatest balanced accuracy, bagged.

    The single best cut of a few hundred figures hangs on a few of them and moves test balanced accuracy
    by points. So the best cut of each bootstrap resample is taken (stratified by class), and their median
    is the threshold: the same criterion, less noise.

    Parameters
    ----------
    confidences : (N,) P(atypical); labels : (N,) 0 or 1, both present.
    """
    p, y = np.asarray(confidences, np.float64), np.asarray(labels).astype(bool)
    if not 0 < y.sum() < len(y):
        raise ValueError(f"{int(y.sum())} of {len(y)} figures are AMF, expected figures of both classes")
    rng = np.random.default_rng(seed)
    amf, nmf = np.sort(p[y]), np.sort(p[~y])  # the draws then do not hang on the order of the figures
    best = np.array(
        [best_cut(rng.choice(amf, len(amf)), rng.choice(nmf, len(nmf)))[0] for _ in range(resamples)]
    )
    low, value, high = np.quantile(best, [0.025, 0.5, 0.975])
    return Threshold(float(value), float(low), float(high))


def best_cut(amf: Array, nmf: Array) -> tuple[float, float]:
    """Best single cut between two samples of confidences: (threshold, its balanced accuracy).

    Cuts lie midway between neighbouring confidences; of equally good ones the middle one is taken.
    """
    values = np.unique(np.concatenate([amf, nmf]))
    cuts = np.concatenate([values[:1] / 2, (values[1:] + values[:-1]) / 2, (values[-1:] + 1) / 2])
    accuracies = balanced_accuracy_at(cuts, amf, nmf)
    ties = np.flatnonzero(accuracies >= accuracies.max() - 1e-12)
    chosen = ties[len(ties) // 2]
    return float(cuts[chosen]), float(accuracies[chosen])


def balanced_accuracy_at(cuts: Array, amf: Array, nmf: Array) -> Array:
    """Balanced accuracy when a figure is atypical from each of (K,) cuts on: (K,)."""
    sensitivity = 1 - np.searchsorted(np.sort(amf), cuts, side="left") / len(amf)
    specificity = np.searchsorted(np.sort(nmf), cuts, side="left") / len(nmf)
    return np.asarray((sensitivity + specificity) / 2)
