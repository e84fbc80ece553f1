"""Random parameters for a batch, from a generator that the caller owns.

Numbers are drawn on the generator's device and moved to the images': a CPU generator gives the same
augmentation on any device, a GPU generator keeps large fields (noise) on the GPU.
"""

import numpy as np
import torch
from torch import Tensor


def generator_at(seed: int, *position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one place of a run, as (epoch, step, rank): a resumed run draws the same there."""
    state = np.random.SeedSequence([seed, *position]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))


def uniform(
    generator: torch.Generator, shape: tuple[int, ...], low: float, high: float, images: Tensor
) -> Tensor:
    """float32 values from [low, high), on the device of `images`."""
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    return (low + (high - low) * drawn).to(images.device)


def normal(generator: torch.Generator, shape: tuple[int, ...], images: Tensor) -> Tensor:
    """float32 values from N(0, 1), on the device of `images`."""
    return torch.randn(shape, generator=generator, device=generator.device).to(images.device)


def chance(generator: torch.Generator, shape: tuple[int, ...], probability: float, images: Tensor) -> Tensor:
    """bool values, each True with `probability`, on the device of `images`."""
    return uniform(generator, shape, 0.0, 1.0, images) < probability
