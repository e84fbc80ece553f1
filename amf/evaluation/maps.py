"""What a decision rests on: integrated gradients (Sundararajan et al., ICML 2017) by captum.

Each pixel gets a share of the difference between the figure's logit and that of a plain patch of the figure's
mean colour; the shares of all pixels sum to that difference.
"""

from collections.abc import Iterator

import numpy as np
import torch
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from amf.model.bundle import Bundle
from amf.model.classifier import Classifier
from amf.model.preprocess import PATCH_PX, ImageSpec, centre_crop, normalise, resize
from amf.model.views import views

STEPS = 32
"""Of the integral, by Gauss and Legendre; the sum is then within a few percent of the difference."""

BATCH = 8


def attribute(bundle: Bundle, patches: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
    """A map for each of (N, 128, 128, 3) uint8 patches: (128, 128) float32, zero where no member looks.

    Its values are logits a pixel, above zero where the figure speaks for atypical; their sum is
    `logit(patch) - logit(plain(patch))`, members and views averaged, up to the integral's error.
    """
    for model in bundle.members:
        model.eval().prepare_for_inference()
        model.float().requires_grad_(False)  # pixels alone get a gradient
    for start in range(0, len(patches), BATCH):
        batch = patches[start : start + BATCH]
        total = torch.zeros(len(batch), PATCH_PX, PATCH_PX)
        for spec, model in zip(bundle.spec.members, bundle.members, strict=True):
            side = spec.image.field_of_view_px
            crops, plain_crops = (_crops(pixels, side) for pixels in (batch, plain(batch)))
            shares = _integrate(model, spec.image, spec.views, crops, plain_crops)
            centre_crop(total, side).add_(shares / len(bundle.members))
        yield from total.numpy()


def plain(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Patches of each one's mean colour, of the same shape: nothing to see, in the same stain."""
    colours = patches.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8)
    return np.broadcast_to(colours, patches.shape).copy()


def _crops(patches: NDArray[np.uint8], side: int) -> Tensor:
    """(B, 128, 128, 3) uint8 → (B, 3, side, side) float32 in [0, 1]."""
    return centre_crop(torch.from_numpy(patches).permute(0, 3, 1, 2), side).float() / 255


def _integrate(
    model: Classifier, image: ImageSpec, view_count: int, crops: Tensor, plain_crops: Tensor
) -> Tensor:
    def logit(pixels: Tensor) -> Tensor:
        x = normalise(resize(pixels, image), image)  # (B, 3, S, S)
        return torch.stack([model(view)[0] for view in views(x, view_count)]).mean(0)  # (B,)

    shares: Tensor = IntegratedGradients(logit).attribute(
        crops, baselines=plain_crops, n_steps=STEPS, method="gausslegendre", internal_batch_size=64
    )
    return shares.detach().sum(1).float()  # (B, side, side)


def overlay(map_: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour a map: orange speaks for atypical, blue for normal; (128, 128, 4) uint8 RGBA.

    The strongest hundredth is nearly opaque, after smoothing over 1 µm: a single pixel says nothing.
    """
    smooth = np.asarray(Image.fromarray(map_).reduce(4).resize(map_.shape, Image.Resampling.BICUBIC))
    strength = np.abs(smooth) / max(float(np.quantile(np.abs(smooth), 0.99)), 1e-12)
    colour = np.where(smooth[..., None] > 0, [213, 94, 0], [0, 114, 178])
    alpha = np.round(8 * np.clip(strength, 0, 1))[..., None] * 24  # nine steps: WebP keeps alpha without loss
    return np.concatenate([colour, alpha], axis=2).astype(np.uint8)
