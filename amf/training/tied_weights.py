"""Weights tied by the symmetries of the square: a figure turned or mirrored gets the same logit.

A mitotic figure has no up. Channels come in eights: each learnt filter stands once for each of the square's
8 symmetries, and what the later layers read of the 8 copies is permuted to match, so that a symmetry of the
image permutes channels and nothing else; the head gives all copies one weight. An eighth of the weights is
left to learn, and no view has to be averaged afterwards. (Group equivariant convolutional networks, Cohen and
Welling, ICML 2016; on histology, Veeling et al., MICCAI 2018.)

The tie is torch's parametrization and exists in training only: `untie` leaves the plain network.
"""

from functools import cache
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from amf.model.classifier import Classifier
from amf.model.views import move

ORDER = 8
"""Symmetries of the square: four rotations, then the mirror image of each."""


@cache
def relative_symmetries() -> Tensor:
    """(8, 8) int64, [g, h] = the symmetry that, followed by g, gives h."""
    corners = torch.arange(4).view(2, 2)
    moved = [move(corners, symmetry) for symmetry in range(ORDER)]
    table = torch.empty(ORDER, ORDER, dtype=torch.int64)
    for g, first in product(range(ORDER), range(ORDER)):
        (h,) = (s for s in range(ORDER) if torch.equal(moved[s], move(moved[first], g)))
        table[g, h] = first
    return table


class _EightCopies(nn.Module):
    """A weight whose channels are 8 copies of what is learnt; the learnt part starts as the first of them."""

    def right_inverse(self, weight: Tensor) -> Tensor:
        return weight[: len(weight) // ORDER].clone()


class _Copies(_EightCopies):
    """One value per channel (C / 8,) ↔ (C,), the same for all copies."""

    def forward(self, learnt: Tensor) -> Tensor:
        return learnt.repeat(ORDER)


class _LiftedFilters(_EightCopies):
    """The stem's filters (C / 8, 3, k, k) ↔ (C, 3, k, k), moved by each symmetry."""

    def forward(self, learnt: Tensor) -> Tensor:
        return torch.cat([move(learnt, g) for g in range(ORDER)])


class _GroupFilters(_EightCopies):
    """Filters over 8 copies (C / 8, C_in, k, k) ↔ (C, C_in, k, k): moved, and the copies read permuted."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        copies = torch.arange(channels_in).view(ORDER, -1)  # channel = copy · (C_in / 8) + filter
        self.read: Tensor
        self.register_buffer("read", copies[relative_symmetries()].flatten(1), persistent=False)  # (8, C_in)

    def forward(self, learnt: Tensor) -> Tensor:
        return torch.cat([move(learnt[:, read], g) for g, read in enumerate(self.read)])


class _MeanOfCopies(nn.Module):
    """A linear layer that reads the mean of the copies: weights (U, C / 8) ↔ (U, C)."""

    def forward(self, learnt: Tensor) -> Tensor:
        return learnt.repeat(1, ORDER) / ORDER

    def right_inverse(self, weight: Tensor) -> Tensor:
        # as wide a draw as a layer of C / 8 inputs would have had
        return weight[:, : weight.shape[1] // ORDER] * ORDER**0.5


def tie(classifier: Classifier) -> None:
    """Tie the weights of a classifier with a compact backbone, in place; a share of its draws remains.

    Raises
    ------
    ValueError : a width is not a multiple of 8.
    """
    for name, module in _tied(classifier):
        if isinstance(module, nn.Conv2d):
            if module.out_channels % ORDER:
                raise ValueError(
                    f"{name} has {module.out_channels} channels, expected a multiple of {ORDER}, to tie"
                )
            stem = module is classifier.backbone.stem
            register_parametrization(
                module, "weight", _LiftedFilters() if stem else _GroupFilters(module.in_channels)
            )
        elif isinstance(module, nn.BatchNorm2d):
            register_parametrization(module, "weight", _Copies())
            register_parametrization(module, "bias", _Copies())
        else:
            register_parametrization(module, "weight", _MeanOfCopies())


def untie(classifier: Classifier) -> None:
    """Leave the plain network that the ties amount to, in place.

    Batch statistics are averaged over the copies: each was measured apart, and all estimate the same.
    """
    for _, module in _tied(classifier):
        for name in ("weight", "bias") if isinstance(module, nn.BatchNorm2d) else ("weight",):
            remove_parametrizations(module, name)
        if isinstance(module, nn.BatchNorm2d):
            for statistic in (module.running_mean, module.running_var):
                assert statistic is not None
                statistic.copy_(statistic.view(ORDER, -1).mean(0).repeat(ORDER))


def _tied(classifier: Classifier) -> list[tuple[str, nn.Module]]:
    """The backbone's convolutions and norms, and the first linear layer after it."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    found = [(name, part) for name, part in classifier.backbone.named_modules() if isinstance(part, kinds)]
    head = [part for part in (*classifier.hidden.modules(), classifier.logit) if isinstance(part, nn.Linear)]
    return [*found, ("head", head[0])]
