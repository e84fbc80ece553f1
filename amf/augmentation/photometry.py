"""What changes the values of a training patch and leaves every structure where it is.

All take and return (B, 3, H, W) float32 images in [0, 1] and draw one set of parameters per patch; the result
may leave [0, 1] and is clamped by the caller, once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from amf.augmentation.randomness import chance, normal, uniform

HAEMATOXYLIN, EOSIN = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11)
"""Optical density of R, G, B per unit of dye (Ruifrok & Johnston 2001)."""

DARKEST = 1 / 255
"""The least intensity of an 8-bit image that has a finite optical density."""


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


def stain_basis() -> Tensor:
    """(3, 3) float32: columns of unit length for haematoxylin, eosin and what is perpendicular to both."""
    h, e = torch.tensor(HAEMATOXYLIN), torch.tensor(EOSIN)
    return F.normalize(torch.stack([h, e, torch.linalg.cross(h, e)], dim=1), dim=0)


def jitter_stain(images: Tensor, generator: torch.Generator, gain: float, offset: float) -> Tensor:
    """Amounts of haematoxylin, eosin and residual: each times 1 ± gain, plus ± offset (in optical density).

    A dye absorbs: its amount adds up in optical density OD = −ln(intensity) (Beer and Lambert), so that is
    where stain varies between laboratories and scanners.
    """
    basis = stain_basis().to(images.device)
    gains, offsets = _draw(images, generator, gain, offset)
    matrices = basis @ (gains * torch.linalg.inv(basis))  # (B, 3, 3): to amounts, scaled, and back
    return _map_density(images, matrices, basis @ offsets)


def jitter_density(images: Tensor, generator: torch.Generator, gain: float, offset: float) -> Tensor:
    """Optical density of each colour channel: times 1 ± gain, plus ± offset."""
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


def synthesise_amplitudes(
    images: Tensor, generator: torch.Generator, alpha: float, gamma: float, beta: float
) -> Tensor:
    """Random Amplitude Spectrum Synthesis (paper reference 6: Qiao et al. 2024, arXiv 2409.04768).

    A patch's Fourier phase says where structures are, its amplitude how strong each scale is: another
    scanner's sharpness, noise and contrast. RASS multiplies each frequency's amplitude by δ ~ N(1, σ²) and
    keeps the phase; σ runs from β for the patch's mean to α^γ + β for its finest detail, see
    `amplitude_deviation`. Ours is that δ is cut off at zero, because a negative amplitude is a turned phase,
    and that each channel is perturbed on its own.

    Parameters
    ----------
    alpha : σ at the highest frequency, before the power.
    gamma : how late σ rises with the frequency, above 0.
    beta : σ at every frequency, the mean brightness included.
    """
    height, width = images.shape[-2:]
    spectrum = torch.fft.rfft2(images)  # (B, 3, H, W // 2 + 1) complex
    deviation = amplitude_deviation(height, width, alpha, gamma, beta).to(images.device)
    factors = 1 + deviation * normal(generator, tuple(spectrum.shape), images)
    perturbed: Tensor = torch.fft.irfft2(spectrum * factors.clamp_min(0), s=(height, width))  # (B, 3, H, W)
    return perturbed


def amplitude_deviation(height: int, width: int, alpha: float, gamma: float, beta: float) -> Tensor:
    """σ[m, n] = (2 α √((m² + n²) / (H² + W²)))^γ + β for m in ±H/2, n in ±W/2: (H, W // 2 + 1) float32.

    At the frequencies of torch.fft.rfft2.
    """
    m = torch.fft.fftfreq(height, d=1 / height)[:, None]
    n = torch.fft.rfftfreq(width, d=1 / width)[None, :]
    return (2 * alpha * torch.sqrt((m**2 + n**2) / (height**2 + width**2))) ** gamma + beta
