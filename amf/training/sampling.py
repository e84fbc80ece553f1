"""Which figures an epoch trains on: weights by class, domain and difficulty, and the order drawn from them.

Paper, "Sampling" and "Hard Negative Mining". The order of an epoch is a pure function of (seed, epoch,
weights): a run resumed from those three continues with the same figures, on one process or on several.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HARD_FACTOR = 2.0  # paper: hard figures' weights are doubled


def hard_mask(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]], fraction: float = 0.30
) -> NDArray[np.bool_]:
    """The figures with the largest d = |p̂ − y| (paper, "Hard Negative Mining").

    Of figures with the same d those that come first are taken, so exactly round(fraction · N) are hard and
    the choice depends on nothing but the arguments.

    Parameters
    ----------
    probabilities, labels: (N,) p̂ and the soft y, both in [0, 1].

    Raises
    ------
    ValueError: the shapes differ, a value is not finite, or the fraction is outside [0, 1].
    """
    if probabilities.shape != labels.shape or probabilities.ndim != 1:
        raise ValueError(f"probabilities {probabilities.shape} and labels {labels.shape} are not both (N,)")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}, expected a value in [0, 1]")
    difficulty = np.abs(probabilities.astype(np.float64) - labels.astype(np.float64))
    if not np.isfinite(difficulty).all():
        raise ValueError(f"the difficulty of figure {int(np.argmin(np.isfinite(difficulty)))} is not finite")
    hardest_first = np.argsort(-difficulty, kind="stable")
    mask = np.zeros(len(difficulty), dtype=np.bool_)
    mask[hardest_first[: round(fraction * len(difficulty))]] = True
    return mask


def sampling_weights(
    labels: NDArray[np.floating[Any]], domains: Sequence[Any], hard: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """One over the class's size × one over the domain's size × 2 where hard, scaled to the sum 1.

    Parameters
    ----------
    labels: (N,) soft labels; AMF from 0.5 upwards, as in amf.training.losses.
    domains: (N,) names or numbers.
    hard: (N,) see `hard_mask`; None before the first mining pass.

    Raises
    ------
    ValueError: there is no figure, or the lengths differ.
    """
    if len(labels) == 0 or len(domains) != len(labels) or (hard is not None and len(hard) != len(labels)):
        raise ValueError(
            f"{len(labels)} labels, {len(domains)} domains and "
            f"{'no' if hard is None else len(hard)} hard flags are not the same number of figures"
        )
    weights = _one_over_group_size(labels >= 0.5) * _one_over_group_size(np.asarray(domains))
    if hard is not None:
        weights *= np.where(hard, HARD_FACTOR, 1.0)
    return weights / float(weights.sum())


def _one_over_group_size(groups: NDArray[Any]) -> NDArray[np.float64]:
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[group_of].astype(np.float64)


def epoch_order(weights: NDArray[np.float64], seed: int, epoch: int, draws: int) -> NDArray[np.int64]:
    """`draws` indices of figures drawn with replacement, with probability proportional to (N,) `weights`."""
    generator = np.random.default_rng([seed, epoch])
    return generator.choice(len(weights), size=draws, p=weights / weights.sum())


def shard(order: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """Every `world_size`-th index from `rank` on: together the ranks' k-th batches are the k-th global batch.

    An order that does not divide is filled up with its own beginning, so that all ranks take as many steps.
    """
    missing = -len(order) % world_size
    return np.resize(order, len(order) + missing)[rank::world_size]
