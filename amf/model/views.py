"""The eight symmetries of the square: how a patch is seen when no side of it is up."""

from collections.abc import Iterator

import torch
from torch import Tensor


def views(x: Tensor, count: int) -> Iterator[Tensor]:
    """The first `count` (1 to 8) symmetries of the square of (B, 3, S, S): rotations, then mirrors."""
    for symmetry in range(count):
        yield move(x, symmetry)


def move(x: Tensor, symmetry: int) -> Tensor:
    """Apply a symmetry, 0 (none) to 7, to the last two axes: quarter turns, from 4 on also mirrored."""
    turned = torch.rot90(x, symmetry % 4, (-2, -1))
    return turned.flip(-1) if symmetry >= 4 else turned
