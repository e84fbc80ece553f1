"""Random Amplitude Spectrum Synthesis (paper reference 6: Qiao et al. 2024, arXiv 2409.04768).

A patch's Fourier phase says where structures are, its amplitude how strong each scale is: another scanner's
sharpness, noise and contrast. RASS multiplies each frequency's amplitude by δ ~ N(1, σ²), keeps the phase,
and lets the spread grow with the spatial frequency:

    σ[m, n] = (2 α √((m² + n²) / (H² + W²)))^γ + β,   m in ±H/2, n in ±W/2

so that σ runs from β for the patch's mean to α^γ + β for its finest detail. Ours is that δ is cut off at
zero, because a negative amplitude is a turned phase, and that each channel is perturbed on its own.
"""

import torch
from torch import Tensor

from amf.augmentation.randomness import normal


def amplitude_deviation(height: int, width: int, alpha: float, gamma: float, beta: float) -> Tensor:
    """σ of the formula above at the frequencies of torch.fft.rfft2: (H, W // 2 + 1) float32."""
    m = torch.fft.fftfreq(height, d=1 / height)[:, None]
    n = torch.fft.rfftfreq(width, d=1 / width)[None, :]
    return (2 * alpha * torch.sqrt((m**2 + n**2) / (height**2 + width**2))) ** gamma + beta


def synthesise_amplitudes(
    images: Tensor, generator: torch.Generator, alpha: float, gamma: float, beta: float
) -> Tensor:
    """(B, 3, H, W) float32 in [0, 1] -> the same, not yet clamped to [0, 1]; alpha = beta = 0 is identity.

    Parameters
    ----------
    alpha: spread at the highest frequency, before the power.
    gamma: how late the spread rises with the frequency, above 0.
    beta: spread at every frequency, the mean brightness included.
    """
    height, width = images.shape[-2:]
    spectrum = torch.fft.rfft2(images)  # (B, 3, H, W // 2 + 1) complex
    deviation = amplitude_deviation(height, width, alpha, gamma, beta).to(images.device)
    factors = 1 + deviation * normal(generator, tuple(spectrum.shape), images)
    perturbed: Tensor = torch.fft.irfft2(spectrum * factors.clamp_min(0), s=(height, width))  # (B, 3, H, W)
    return perturbed
