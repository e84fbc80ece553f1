"""An epoch's batches: figures drawn (paper, "Sampling" and "Hard Negative Mining"), augmented and mixed.

Everything random is a function of (seed, epoch, batch, process), so a resumed run continues with the same
batches, on one process or on several.
"""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import AUGMENTATIONS, MIXUPS, Mixed, augment, mix
from amf.data.figures import Figures
from amf.errors import DataError
from amf.model.preprocess import normalise, resize
from amf.training.recipe import Recipe, parse_recipe

Rows = NDArray[np.int64]

HARD_SHARE, HARD_FACTOR = 0.30, 2.0  # paper: the hardest 30 % of the figures weigh twice as much


@dataclass(frozen=True)
class Task:
    """One run: train `recipe` on the rows `train` of `figures`, choose the epoch by the rows `monitor`.

    Raises
    ------
    DataError : a side lacks a class.
    """

    recipe: Recipe
    figures: Figures
    train: Rows
    monitor: Rows

    def __post_init__(self) -> None:
        for name, rows in (("training", self.train), ("monitor", self.monitor)):
            if len(np.unique(self.figures.label[rows])) < 2:
                raise DataError(f"the {len(rows)} {name} figures are of one class, expected AMF and NMF")

    @property
    def labels(self) -> NDArray[np.float32]:
        """(N,) the experts' mean votes or, with hard labels, the majority's."""
        return self.figures.soft_label if self.recipe.loss.labels == "soft" else self.figures.label

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only, so that every step weighs the same."""
        return len(self.train) // self.recipe.optimise.batch

    @property
    def total_steps(self) -> int:
        """Steps of the optimiser where patience does not end the run earlier."""
        return self.recipe.optimise.epochs * self.steps_per_epoch

    def patches_at_once(self, processes: int) -> int:
        """Patches that one of so many processes takes at once: its share of a batch, or a part of that.

        Raises
        ------
        DataError : the recipe's batch does not divide so.
        """
        optimise = self.recipe.optimise
        patches, rest = divmod(optimise.batch, processes * optimise.accumulate)
        if rest or patches < 2 or not self.steps_per_epoch:
            raise DataError(
                f"a batch of {optimise.batch} out of {len(self.train)} figures does not divide into "
                f"{optimise.accumulate} equal parts of two or more on each of {processes} processes"
            )
        return patches

    def drawn(self, epoch: int, hard: NDArray[np.bool_] | None) -> Rows:
        """The rows that an epoch draws, with repetition; `hard` (N_train,) marks those that mining found."""
        sampling, n = self.recipe.sampling, len(self.train)
        labels = self.labels[self.train] if sampling.balance_classes else np.zeros(n, np.float32)
        domains = self.figures.domain[self.train] if sampling.balance_domains else np.zeros(n, np.int64)
        draws = self.steps_per_epoch * self.recipe.optimise.batch
        weights = sampling_weights(labels, domains, hard)
        return self.train[draw(weights, self.recipe.optimise.seed, epoch, draws)]

    def identity(self) -> str:
        """Recipe, table and split as text: a checkpoint continues this run where they are the same."""
        rows = [self.train.tolist(), self.monitor.tolist()]
        return json.dumps([self.recipe.model_dump(mode="json"), self.figures.table_hash, rows])

    def has_identity(self, identity: str) -> bool:
        """Whether a checkpoint's identity is this run's; a recipe key newer than it has its default."""
        recipe, *data = json.loads(identity)
        same_recipe = parse_recipe(recipe, "a checkpoint's recipe") == self.recipe
        return same_recipe and data == json.loads(self.identity())[1:]


def hard_mask(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.floating[Any]], share: float = HARD_SHARE
) -> NDArray[np.bool_]:
    """(N,) True for the round(share · N) figures with the largest d = |p̂ − y|, of equal ones the first.

    Parameters
    ----------
    probabilities, labels : (N,) p̂ and the soft y, both in [0, 1].
    """
    difficulty = np.abs(probabilities.astype(np.float64) - labels.astype(np.float64))
    hardest_first = np.argsort(-difficulty, kind="stable")
    mask = np.zeros(len(difficulty), dtype=np.bool_)
    mask[hardest_first[: round(share * len(difficulty))]] = True
    return mask


def sampling_weights(
    labels: NDArray[np.floating[Any]], domains: NDArray[np.int64], hard: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """(N,) one over the class's size × one over the domain's size × 2 where hard, scaled to the sum 1.

    Parameters
    ----------
    labels : (N,) soft labels; AMF from 0.5 upwards. domains : (N,).
    hard : (N,) see `hard_mask`; None before the first mining pass.
    """
    weights = _one_over_group_size(labels >= 0.5) * _one_over_group_size(domains)
    if hard is not None:
        weights *= np.where(hard, HARD_FACTOR, 1.0)
    return weights / float(weights.sum())


def _one_over_group_size(groups: NDArray[Any]) -> NDArray[np.float64]:
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return 1.0 / sizes[group_of].astype(np.float64)


def draw(weights: NDArray[np.float64], seed: int, epoch: int, draws: int) -> NDArray[np.int64]:
    """`draws` indices, with replacement, each with a probability proportional to its (N,) weight."""
    generator = np.random.default_rng([seed, epoch])
    return generator.choice(len(weights), size=draws, p=weights / weights.sum())


def dealt(rows: Rows, process: int, processes: int) -> Rows:
    """Every `processes`-th row from `process` on: the processes' k-th batches make up the k-th global batch.

    Where the rows do not divide, their beginning fills them up, so that all processes take as many steps.
    """
    missing = -len(rows) % processes
    return np.resize(rows, len(rows) + missing)[process::processes]


class Batch(NamedTuple):
    """What a step learns from, on its device."""

    mixed: Mixed  # images (B, 3, S, S) normalised
    domains: Tensor  # (B,) int64, of each patch before mixing


def make_batch(task: Task, rows: Rows, place: tuple[int, int, int], device: torch.device) -> Batch:
    """Augment, normalise and mix the patches of some rows.

    `place` is (epoch, batch, process); it and the seed decide everything random, whichever thread is at work.
    """
    recipe, figures, spec = task.recipe, task.figures, task.recipe.model.image
    # Pixels are drawn where they are used, choices on the CPU: reading them from a GPU would wait for it.
    seed = recipe.optimise.seed
    pixels, choices = generator_at(seed, *place, 0, device=device), generator_at(seed, *place, 1)
    source = torch.from_numpy(figures.patches[rows]).to(device).permute(0, 3, 1, 2)  # (B, 3, 128, 128) uint8
    x = augment(AUGMENTATIONS[recipe.augmentation], source, pixels, spec.field_of_view_px)
    x = normalise(resize(x, spec), spec)  # (B, 3, S, S)
    y, domains = torch.from_numpy(task.labels[rows]).to(device), torch.from_numpy(figures.domain[rows])
    # The share is drawn whether it decides or not, so that every recipe uses the generator alike.
    mixes = torch.rand(1, generator=choices).item() < recipe.mixup_share
    if recipe.mixup is not None and mixes:
        mixed = mix(x, y, MIXUPS[recipe.mixup], choices, domains)
    else:
        mixed = Mixed(x, y, torch.arange(len(rows), device=device), torch.ones(len(rows), device=device))
    return Batch(mixed, domains.to(device))


class Batches:
    """One process's batches of an epoch, in order; a thread makes the next while the caller uses the last.

    Attributes
    ----------
    rows : (batches, B) of each batch. waited_s : how long the caller has waited, in seconds.
    """

    def __init__(
        self, task: Task, epoch: int, drawn: Rows, process: int, processes: int, device: torch.device
    ) -> None:
        self.task, self.epoch, self.process, self.device = task, epoch, process, device
        self.rows = dealt(drawn, process, processes).reshape(-1, task.patches_at_once(processes))
        self.waited_s = 0.0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(self._make, 1)
            for number in range(1, len(self) + 1):
                asked = time.perf_counter()
                batch = coming.result()
                self.waited_s += time.perf_counter() - asked
                if number < len(self):
                    coming = thread.submit(self._make, number + 1)
                yield batch

    def _make(self, number: int) -> Batch:
        place = (self.epoch, number, self.process)
        return make_batch(self.task, self.rows[number - 1], place, self.device)
