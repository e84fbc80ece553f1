"""What a decision rests on: integrated gradients (Sundararajan et al., ICML 2017).

Each pixel gets a share of the difference between the figure's logit and that of a plain patch of the figure's
mean colour; the shares of all pixels sum to that difference, up to the integral's error.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amf.model.bundle import Bundle
from amf.model.classifier import Classifier
from amf.model.preprocess import PATCH_PX, centre_crop, normalise, resize
from amf.model.spec import MemberSpec
from amf.model.views import move

STEPS = 32
"""Points of each network's integral; its views take them in turn, since they see much the same."""

BATCH = 8
"""Figures in one pass of a network."""


def attribute(
    bundle: Bundle, patches: NDArray[np.uint8], steps: int = STEPS
) -> Iterator[NDArray[np.float32]]:
    """A map for each of (N, 128, 128, 3) uint8 patches: (128, 128) float32, zero where no member looks.

    Its values are logits a pixel, above zero where the figure speaks for atypical; their sum is
    `logit(patch) - logit(plain(patch))`, members and views averaged, up to the integral's error.
    """
    for model in bundle.members:
        model.eval().prepare_for_inference()
        model.float().requires_grad_(False)  # pixels alone get a gradient
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for start in range(0, len(patches), BATCH):
        batch = patches[start : start + BATCH]
        total = torch.zeros(len(batch), PATCH_PX, PATCH_PX)
        for spec, model in zip(bundle.spec.members, bundle.members, strict=True):
            side = spec.image.field_of_view_px
            crops, plain_crops = (_crops(pixels, side) for pixels in (batch, plain(batch)))
            shares = _integrate(model, spec, crops, plain_crops, steps)
            centre_crop(total, side).add_(shares / len(bundle.members))
        yield from total.numpy()


def plain(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Patches of each one's mean colour, of the same shape: nothing to see, in the same stain."""
    colours = patches.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
    return np.broadcast_to(colours, patches.shape).copy()


def _crops(patches: NDArray[np.uint8], side: int) -> Tensor:
    """(B, 128, 128, 3) uint8 → (B, 3, side, side) float32 in [0, 1]."""
    return centre_crop(torch.from_numpy(patches).permute(0, 3, 1, 2), side).float() / 255


def _integrate(model: Classifier, spec: MemberSpec, crops: Tensor, plain_crops: Tensor, steps: int) -> Tensor:
    """The shares of (B, 3, side, side) crops, colours summed: (B, side, side); by the midpoint rule."""
    change = crops - plain_crops
    gradient = torch.zeros_like(crops)
    for step in range(steps):
        pixels = (plain_crops + (step + 0.5) / steps * change).requires_grad_()
        x = move(normalise(resize(pixels, spec.image), spec.image), step % spec.views)  # (B, 3, S, S)
        logits = model(x.contiguous(memory_format=torch.channels_last))[0]  # (B,)
        gradient += torch.autograd.grad(logits.sum(), pixels)[0]
    return (change * gradient).sum(1) / steps


def overlay(map_: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour a map: orange speaks for atypical, blue for normal; (128, 128, 4) uint8 RGBA.

    The strongest hundredth is nearly opaque, after smoothing over 1 µm: a single pixel says nothing.
    """
    smooth = np.asarray(Image.fromarray(map_).reduce(4).resize(map_.shape, Image.Resampling.BICUBIC))
    strength = np.abs(smooth) / max(float(np.quantile(np.abs(smooth), 0.99)), 1e-12)
    colour = np.where(smooth[..., None] > 0, [213, 94, 0], [0, 114, 178])
    alpha = np.round(8 * np.clip(strength, 0, 1))[..., None] * 24  # nine steps: WebP keeps alpha without loss
    return np.concatenate([colour, alpha], axis=2).astype(np.uint8)
