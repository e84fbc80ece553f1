"""Temperature and threshold from predictions on figures that the model never trained on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """A threshold on the confidence and the 95 % interval of its bootstrap distribution."""

    value: float
    low: float
    high: float


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Find the temperature that minimises the negative log likelihood of sigmoid(logit / T).

    On calibration of modern neural networks (Guo et al., ICML 2017). Searched between 1/20 and 20.

    Parameters
    ----------
    logits, labels : (N,), labels 0 or 1 (AMF).
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)

    def loss(log_t: float) -> float:
        scaled = z / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, scaled) - y * scaled))

    bound = np.log(20)
    return float(np.exp(minimize_scalar(loss, bounds=(-bound, bound), method="bounded").x))


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
