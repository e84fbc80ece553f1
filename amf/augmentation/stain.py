"""Jitter of the stain: more or less of it, of another hue, on glass that is not quite white.

A dye absorbs: its amount adds up in optical density OD = −ln(intensity) (Beer and Lambert), so that is where
stain varies between laboratories and scanners, and where it is perturbed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from amf.augmentation.randomness import uniform

HAEMATOXYLIN = (0.65, 0.70, 0.29)  # optical density of R, G, B per unit of dye (Ruifrok & Johnston 2001)
EOSIN = (0.07, 0.99, 0.11)
DARKEST = 1 / 255  # the least intensity of an 8-bit image that has a finite density


def stain_basis() -> Tensor:
    """(3, 3) float32: columns of unit length for haematoxylin, eosin and what is perpendicular to both."""
    h, e = torch.tensor(HAEMATOXYLIN), torch.tensor(EOSIN)
    return F.normalize(torch.stack([h, e, torch.linalg.cross(h, e)], dim=1), dim=0)


def jitter_stain(images: Tensor, generator: torch.Generator, gain: float, offset: float) -> Tensor:
    """Amounts of haematoxylin, eosin and residual: each times 1 ± gain, plus ± offset (in optical density).

    (B, 3, H, W) float in [0, 1] -> the same shape; may exceed 1 and is clamped by the caller.
    """
    basis = stain_basis().to(images.device)
    gains, offsets = _draw(images, generator, gain, offset)
    matrices = basis @ (gains * torch.linalg.inv(basis))  # (B, 3, 3): to amounts, scaled, and back
    return _map_density(images, matrices, basis @ offsets)


def jitter_density(images: Tensor, generator: torch.Generator, gain: float, offset: float) -> Tensor:
    """Optical density of each colour channel: times 1 ± gain, plus ± offset; shapes as in `jitter_stain`."""
    gains, offsets = _draw(images, generator, gain, offset)
    return _map_density(images, torch.diag_embed(gains.squeeze(2)), offsets)


def _draw(images: Tensor, generator: torch.Generator, gain: float, offset: float) -> tuple[Tensor, Tensor]:
    """Gains and offsets, each (B, 3, 1)."""
    gains = uniform(generator, (len(images), 3, 1), 1 - gain, 1 + gain, images)
    offsets = uniform(generator, (len(images), 3, 1), -offset, offset, images)
    return gains, offsets


def _map_density(images: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """The images whose density is matrix · OD + offset; matrices (B, 3, 3), offsets (B, 3, 1)."""
    log_intensity = images.clamp_min(DARKEST).log_().flatten(2)  # (B, 3, H · W) = −OD
    return torch.baddbmm(-offsets, matrices, log_intensity).exp_().reshape(images.shape)
