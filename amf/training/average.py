"""The exponential moving average of the weights, by which epochs are judged and which is kept."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class WeightAverage:
    """The average of what a network learns, batch statistics included; of nothing where `decay` is 0.

    torch's AveragedModel and timm's ModelEmaV3 copy the whole network, under adapters also what is frozen, a
    billion weights. This copies `learnt` alone, the network's own tensors by name.
    """

    def __init__(self, learnt: dict[str, Tensor], decay: float) -> None:
        self.learnt, self.decay = learnt, decay
        self.mean = {name: tensor.clone() for name, tensor in learnt.items()} if decay else {}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after that many steps, from 1."""
        if not self.mean:
            return
        # A running mean at first, so that the random start is forgotten as fast as it can be.
        decay = min(self.decay, steps / (steps + 9))
        floating = [name for name, mean in self.mean.items() if mean.is_floating_point()]
        torch._foreach_lerp_(
            [self.mean[name] for name in floating], [self.learnt[name] for name in floating], 1 - decay
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in the network's place; the weights that learn come back afterwards."""
        kept = {name: self.learnt[name].clone() for name in self.mean}
        copy_into(self.learnt, self.mean)
        try:
            yield
        finally:
            copy_into(self.learnt, kept)


@torch.no_grad()
def copy_into(target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    """Overwrite the target's tensors that the source names."""
    for name, tensor in source.items():
        target[name].copy_(tensor)
