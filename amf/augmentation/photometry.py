"""Changes of colour, sharpness, noise and visibility that leave every structure where it is.

All take and return (B, 3, H, W) float32 images in [0, 1] and draw one set of parameters per patch; the result
may leave [0, 1] and is clamped by the caller, once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from amf.augmentation.randomness import chance, normal, uniform


def jitter_color(
    images: Tensor,
    generator: torch.Generator,
    brightness: float,
    contrast: float,
    saturation: float,
    hue_deg: float,
) -> Tensor:
    """Brightness, contrast, saturation and hue, each within ±its strength of no change.

    Grey is the mean of the three channels. Contrast scales about the patch's mean grey, saturation scales the
    distance from the grey axis of the RGB cube, hue turns about it; all four are one affine map per patch.
    """
    batch = len(images)
    b = uniform(generator, (batch, 1, 1), 1 - brightness, 1 + brightness, images)
    c = uniform(generator, (batch, 1, 1), 1 - contrast, 1 + contrast, images)
    s = uniform(generator, (batch, 1, 1), 1 - saturation, 1 + saturation, images)
    angle = torch.deg2rad(uniform(generator, (batch, 1, 1), -hue_deg, hue_deg, images))

    onto_grey = images.new_full((3, 3), 1 / 3)
    off_grey = torch.eye(3, device=images.device) - onto_grey
    quarter_turn = images.new_tensor([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    matrices = onto_grey + s * (angle.cos() * off_grey + angle.sin() * quarter_turn)  # (B, 3, 3)
    mean_grey = images.mean(dim=(1, 2, 3)).view(batch, 1, 1)
    mapped = torch.baddbmm(b * (1 - c) * mean_grey, b * c * matrices, images.flatten(2))  # (B, 3, H · W)
    return mapped.reshape(images.shape)


def blur(
    images: Tensor, generator: torch.Generator, sigma_px: tuple[float, float], probability: float
) -> Tensor:
    """Gaussian blur of `sigma_px` (a range, in px) for the share `probability` of the patches."""
    batch, channels, height, _ = images.shape
    radius = math.ceil(3 * sigma_px[1])
    sigma = uniform(generator, (batch, 1), *sigma_px, images)
    sigma = torch.where(chance(generator, (batch, 1), probability, images), sigma, 1e-3)  # 1e-3: a delta
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=1)  # (B, 2r + 1), sums to 1
    kernels = kernels.repeat_interleave(channels, dim=0)  # (B · 3, 2r + 1)

    padded = F.pad(images, [radius] * 4, mode="reflect")
    padded = padded.reshape(1, batch * channels, height + 2 * radius, -1)  # a group for each channel
    rows = F.conv2d(padded, kernels[:, None, :, None], groups=batch * channels)
    both = F.conv2d(rows, kernels[:, None, None, :], groups=batch * channels)
    return both.reshape(images.shape)


def add_noise(
    images: Tensor, generator: torch.Generator, deviation: tuple[float, float], probability: float
) -> Tensor:
    """Gaussian noise, independent per value, for the share `probability` of the patches.

    `deviation` is the range of its standard deviation where 1 is the full range from black to white.
    """
    each = (len(images), 1, 1, 1)
    strength = uniform(generator, each, *deviation, images) * chance(generator, each, probability, images)
    return torch.addcmul(images, strength, normal(generator, tuple(images.shape), images))


def cut_out(
    images: Tensor, generator: torch.Generator, side: tuple[float, float], probability: float
) -> Tensor:
    """One square per patch, wholly inside, painted in the patch's mean colour, for the share `probability`.

    `side` is the range of the square's side as a share of the patch's. The mean colour, not black: a black
    square looks like chromatin, of which a figure is made.
    """
    batch, _, height, width = images.shape
    side_px = (uniform(generator, (batch, 1), *side, images) * min(height, width)).round()
    side_px = side_px * chance(generator, (batch, 1), probability, images)
    top = (uniform(generator, (batch, 1), 0, 1, images) * (height - side_px + 1)).floor()
    left = (uniform(generator, (batch, 1), 0, 1, images) * (width - side_px + 1)).floor()
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    rows = (y >= top) & (y < top + side_px)  # (B, H)
    columns = (x >= left) & (x < left + side_px)  # (B, W)
    hidden = (rows[:, :, None] & columns[:, None, :])[:, None]  # (B, 1, H, W)
    return torch.where(hidden, images.mean(dim=(2, 3), keepdim=True), images)
