"""MixUp (Zhang et al. 2018): each patch blended with another of its batch, its label by the same share.

The paper names three variants and gives no parameters:

- standard: λ ~ Beta(0.3, 0.3), so most patches stay close to one of the two;
- strong: λ ~ Beta(1, 1), every share equally likely;
- domain_aware: as standard, but the partner comes from another domain, so that what two domains have in
  common is what decides. A patch without a partner from another domain stays as it is.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from amf.errors import RecipeError


@dataclass(frozen=True)
class MixUp:
    """λ ~ Beta(alpha, alpha); `across_domains` takes partners from other domains only."""

    alpha: float
    across_domains: bool = False


MIXUPS = {
    "standard": MixUp(alpha=0.3),
    "strong": MixUp(alpha=1.0),
    "domain_aware": MixUp(alpha=0.3, across_domains=True),
}


class Mixed(NamedTuple):
    """A mixed batch: images = λ · own + (1 − λ) · partner's, labels likewise."""

    images: Tensor  # (B, 3, H, W) float
    labels: Tensor  # (B,) float in [0, 1]
    partners: Tensor  # (B,) int64, index of the partner in the batch
    lambdas: Tensor  # (B,) float32 in [0, 1], the patch's own share


def mixup_named(name: str) -> MixUp:
    """The variant of that name.

    Raises
    ------
    RecipeError: there is none.
    """
    if name not in MIXUPS:
        raise RecipeError(f"MixUp is {name!r}, expected one of: {', '.join(MIXUPS)}")
    return MIXUPS[name]


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
    images: (B, 3, H, W) float; normalised or not, blending commutes with it.
    labels: (B,) soft labels.
    domains: (B,) int64; needed where partners come from other domains.

    Raises
    ------
    ValueError: domains are needed and absent.
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
