"""Augmentation sets and MixUp by name: the paper's (section "Augmentation Strategy Evaluation") and two more.

The paper names its sets and gives no strengths, except that the medium set "combines spatial transforms with
restrained color jitter and light blur" and that the heavy one adds "affine, cutout, strong noise/jitter".
The strengths here are ours, chosen on the contact sheet of `amf augment`: a figure stays what it is in every
set but the heavy one, which is meant to go too far, and a cutout may hide it. A new set is one `register`.

All lengths, movements and blur alike, are in px of the patch (0.25 µm): patches are augmented at the
resolution that they were scanned in, whatever size the backbone then wants.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amf.augmentation.geometry import Warp, random_symmetry, warped_crop
from amf.augmentation.photometry import (
    add_noise,
    blur,
    cut_out,
    jitter_color,
    jitter_density,
    jitter_stain,
    synthesise_amplitudes,
)
from amf.model.preprocess import centre_crop

Photometric = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class AugmentationSet:
    """What one name does, in this order.

    Parameters
    ----------
    summary : one line for a person, shown on the contact sheet.
    symmetries : one of the square's eight symmetries.
    warp : further movements; None leaves every pixel whole.
    photometric : functions of (images, generator), applied one after the other.
    """

    summary: str
    symmetries: bool = False
    warp: Warp | None = None
    photometric: tuple[Photometric, ...] = ()


AUGMENTATIONS: dict[str, AugmentationSet] = {}


def register(name: str, augmentation: AugmentationSet) -> None:
    """Add a set under a name. Raises ValueError where it is taken."""
    if name in AUGMENTATIONS:
        raise ValueError(f"augmentation {name!r} is already registered")
    AUGMENTATIONS[name] = augmentation


def augment(
    augmentation: AugmentationSet,
    source: Tensor,
    generator: torch.Generator,
    field_of_view_px: int | None = None,
) -> Tensor:
    """Augment a batch of patches by a set, each patch with its own random parameters.

    Parameters
    ----------
    source : (B, 3, S, S) uint8, or float in [0, 1]; on any device.
    generator : owned by the caller (see amf.augmentation.randomness.generator_at).
    field_of_view_px : side of the centre that is shown, in px of the source; all of it unless told.

    Returns
    -------
    (B, 3, field_of_view_px, field_of_view_px) float32 in [0, 1], neither resized nor normalised.
    """
    side = field_of_view_px or source.shape[-1]
    # the loop's autocast would compute positions in bf16: whole pixels off
    with torch.no_grad(), torch.autocast(source.device.type, enabled=False):
        if augmentation.warp is not None:
            images = warped_crop(source, side, augmentation.warp, augmentation.symmetries, generator)
        else:
            images = centre_crop(source, side).float()
            if augmentation.symmetries:
                images = random_symmetry(images, generator)
        if source.dtype == torch.uint8:
            images = images / 255  # after the crop: fewer values
        for change in augmentation.photometric:
            images = change(images, generator)
        return images.clamp(0, 1)


register("none", AugmentationSet("the patch as it is"))
register("flip_rotate", AugmentationSet("one of the square's 8 symmetries, exact", symmetries=True))
register(
    "color",
    AugmentationSet(
        "brightness, contrast, saturation ±20 %, hue ±10°",
        photometric=(partial(jitter_color, brightness=0.2, contrast=0.2, saturation=0.2, hue_deg=10),),
    ),
)
register(
    "blur_noise",
    AugmentationSet(
        "half blurred with sigma 0.3 to 1 px, half with noise of 1 to 4 %",
        photometric=(
            partial(blur, sigma_px=(0.3, 1.0), probability=0.5),
            partial(add_noise, deviation=(0.01, 0.04), probability=0.5),
        ),
    ),
)
register(
    "distortion",
    AugmentationSet("smooth displacement, sd 2.5 px at knots 32 px apart", warp=Warp(elastic_px=2.5)),
)
register(
    "cutout",
    AugmentationSet(
        "half with a square of 15 to 30 % of the side hidden",
        photometric=(partial(cut_out, side=(0.15, 0.30), probability=0.5),),
    ),
)
register(
    "rass",
    AugmentationSet(
        "amplitude spectrum times N(1, sigma), sigma 0.05 (mean) to 2.3 (finest)",
        photometric=(partial(synthesise_amplitudes, alpha=1.5, gamma=2, beta=0.05),),
    ),
)
register(
    "basic",
    AugmentationSet(
        "symmetries; brightness, contrast ±10 %",
        symmetries=True,
        photometric=(partial(jitter_color, brightness=0.1, contrast=0.1, saturation=0, hue_deg=0),),
    ),
)
register(
    "medium",
    AugmentationSet(
        "symmetries, turned ±15°, shifted ±4 px; brightness, contrast, saturation ±10 %, hue ±5°; "
        "30 % blurred with sigma 0.3 to 0.7 px",
        symmetries=True,
        warp=Warp(rotation_deg=15, shift_px=4),
        photometric=(
            partial(jitter_color, brightness=0.1, contrast=0.1, saturation=0.1, hue_deg=5),
            partial(blur, sigma_px=(0.3, 0.7), probability=0.3),
        ),
    ),
)
register(
    "heavy",
    AugmentationSet(
        "symmetries, any angle, zoom 0.8 to 1.25, shifted ±8 px, sheared ±10°; brightness, contrast, "
        "saturation ±25 %, hue ±15°; half each: blur to 1.5 px, noise of 3 to 8 %, cutout of 15 to 35 %",
        symmetries=True,
        warp=Warp(rotation_deg=180, zoom=1.25, shift_px=8, shear_deg=10),
        photometric=(
            partial(jitter_color, brightness=0.25, contrast=0.25, saturation=0.25, hue_deg=15),
            partial(blur, sigma_px=(0.3, 1.5), probability=0.5),
            partial(add_noise, deviation=(0.03, 0.08), probability=0.5),
            partial(cut_out, side=(0.15, 0.35), probability=0.5),
        ),
    ),
)
# Not the paper's:
register(
    "stain",
    AugmentationSet(
        "haematoxylin, eosin, residual each ±25 % and ±0.03 of optical density",
        photometric=(partial(jitter_stain, gain=0.25, offset=0.03),),
    ),
)
register(
    "bundled",
    AugmentationSet(
        "mirrored, any angle, zoom 0.82 to 1.22, shifted ±8 px; density per channel ±25 % and ±0.06",
        symmetries=True,
        warp=Warp(rotation_deg=180, zoom=1.22, shift_px=8),
        photometric=(partial(jitter_density, gain=0.25, offset=0.06),),
    ),
)


@dataclass(frozen=True)
class MixUp:
    """MixUp (Zhang et al. 2018): each patch blended with another of its batch, its label by the same share.

    λ ~ Beta(alpha, alpha) is a patch's own share. `across_domains` takes partners from other domains only, so
    that what two domains have in common decides; a patch without such a partner stays as it is. The paper
    names the three variants and gives no parameters.
    """

    alpha: float
    across_domains: bool = False


MIXUPS = {
    "standard": MixUp(alpha=0.3),  # most patches stay close to one of the two
    "strong": MixUp(alpha=1.0),  # every share is equally likely
    "domain_aware": MixUp(alpha=0.3, across_domains=True),
}


class Mixed(NamedTuple):
    """A mixed batch: images = λ · own + (1 − λ) · partner's, labels likewise."""

    images: Tensor  # (B, 3, H, W) float
    labels: Tensor  # (B,) float in [0, 1]
    partners: Tensor  # (B,) int64, index of the partner in the batch
    lambdas: Tensor  # (B,) float32 in [0, 1], the patch's own share


def mix(
    images: Tensor,
    labels: Tensor,
    mixup: MixUp,
    generator: torch.Generator,
    domains: Tensor | None = None,
) -> Mixed:
    """Blend a batch with itself.

    Parameters
    ----------
    images : (B, 3, H, W) float; normalised or not, blending commutes with it.
    labels : (B,) soft labels.
    domains : (B,) int64; needed where partners come from other domains.

    Raises
    ------
    ValueError : domains are needed and absent.
    """
    batch = len(images)
    partners = _draw_partners(batch, mixup, generator, domains).to(images.device)
    lambdas = _draw_lambdas(batch, mixup.alpha, generator).to(images.device)
    return Mixed(
        torch.lerp(images[partners], images, lambdas.to(images.dtype)[:, None, None, None]),
        torch.lerp(labels[partners].float(), labels.float(), lambdas),
        partners,
        lambdas,
    )


def _draw_partners(batch: int, mixup: MixUp, generator: torch.Generator, domains: Tensor | None) -> Tensor:
    if not mixup.across_domains:
        return torch.randperm(batch, generator=generator, device=generator.device)
    if domains is None:
        raise ValueError("domain-aware MixUp needs the domains of the batch")
    domains = domains.to(generator.device)
    eligible = domains[:, None] != domains[None, :]  # (B, B)
    alone = ~eligible.any(dim=1)
    eligible |= torch.diag(alone)
    return torch.multinomial(eligible.float(), 1, generator=generator).squeeze(1)


def _draw_lambdas(batch: int, alpha: float, generator: torch.Generator) -> Tensor:
    # torch's own Beta takes no generator
    seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
    drawn = np.random.default_rng(seed).beta(alpha, alpha, batch)
    return torch.from_numpy(drawn).float()
