"""What a run is of: a recipe and the figures on either side of a split; and what follows from these alone."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amf.data.figures import Figures
from amf.errors import DataError
from amf.training.recipe import Recipe, parse_recipe
from amf.training.sampling import epoch_order, sampling_weights, shard

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """Train `recipe` on the rows `train` of `figures`, choose the epoch by the rows `monitor`.

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
        """(N,) what is learnt of each figure: the experts' mean vote, or the majority's."""
        return self.figures.soft_label if self.recipe.loss.labels == "soft" else self.figures.label

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches alone: every step weighs the same."""
        return len(self.train) // self.recipe.optimise.batch

    @property
    def total_steps(self) -> int:
        """Steps of the optimiser, patience apart."""
        return self.recipe.optimise.epochs * self.steps_per_epoch

    def part(self, processes: int) -> int:
        """Patches of a batch that one of so many processes takes at once.

        Raises
        ------
        DataError : the recipe's batch cannot be shared out.
        """
        optimise = self.recipe.optimise
        part, rest = divmod(optimise.batch, processes * optimise.accumulate)
        if rest or part < 2 or not self.steps_per_epoch:
            raise DataError(
                f"a batch of {optimise.batch} out of {len(self.train)} figures does not divide into "
                f"{optimise.accumulate} equal parts of two or more on each of {processes} processes"
            )
        return part

    def order(self, epoch: int, hard: NDArray[np.bool_] | None) -> Rows:
        """The rows that an epoch draws, with repetition; `hard` (N_train,) are those that mining found."""
        sampling, n = self.recipe.sampling, len(self.train)
        labels = self.labels[self.train] if sampling.balance_classes else np.zeros(n, np.float32)
        domains = self.figures.domain[self.train] if sampling.balance_domains else np.zeros(n, np.int64)
        weights = sampling_weights(labels, list(domains), hard)
        draws = self.steps_per_epoch * self.recipe.optimise.batch
        return self.train[epoch_order(weights, self.recipe.optimise.seed, epoch, draws)]

    def parts(self, order: Rows, process: int, processes: int) -> Rows:
        """(batches, part) rows of an epoch's order that one process takes, a part at a time."""
        return shard(order, process, processes).reshape(-1, self.part(processes))

    def identity(self) -> str:
        """What must be the same for a checkpoint to continue this run."""
        rows = [self.train.tolist(), self.monitor.tolist()]
        return json.dumps([self.recipe.model_dump(mode="json"), self.figures.table_hash, rows])

    def is_of(self, identity: str) -> bool:
        """Whether a checkpoint's identity is this run's; a recipe key newer than it has its default."""
        recipe, *data = json.loads(identity)
        same_recipe = parse_recipe(recipe, "a checkpoint's recipe") == self.recipe
        return same_recipe and data == json.loads(self.identity())[1:]
