"""The batches of an epoch: which rows, augmented and mixed, made one ahead of the step that uses them."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from amf.augmentation.mixup import Mixed, mix, mixup_named
from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import augment, augmentation_named
from amf.model.preprocess import normalise, resize
from amf.training.task import Rows, Task


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
    source = figures.batch(rows).to(device).permute(0, 3, 1, 2)  # (B, 3, 128, 128)
    x = augment(augmentation_named(recipe.augmentation), source, pixels, spec.field_of_view_px)
    x = normalise(resize(x, spec), spec)  # (B, 3, S, S)
    y, domains = torch.from_numpy(task.labels[rows]).to(device), torch.from_numpy(figures.domain[rows])
    # The share is drawn whether it decides or not, so that every recipe uses the generator alike.
    mixes = torch.rand(1, generator=choices).item() < recipe.mixup_share
    if recipe.mixup is not None and mixes:
        mixed = mix(x, y, mixup_named(recipe.mixup), choices, domains)
    else:
        mixed = Mixed(x, y, torch.arange(len(rows), device=device), torch.ones(len(rows), device=device))
    return Batch(mixed, domains.to(device))


class Batches:
    """An epoch's batches of one process in order; a thread makes the next while the caller uses the last.

    `parts` are the rows of each, (batches, B). `waited_s` is how long the caller has waited, in seconds.
    """

    def __init__(self, task: Task, epoch: int, parts: Rows, process: int, device: torch.device) -> None:
        self.task, self.epoch, self.parts, self.process, self.device = task, epoch, parts, process, device
        self.waited_s = 0.0

    def __len__(self) -> int:
        return len(self.parts)

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
        return make_batch(self.task, self.parts[number - 1], place, self.device)
