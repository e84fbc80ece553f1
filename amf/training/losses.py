"""The three terms of the training loss (paper, section "Model Architecture and Training").

    total = adaptive focal + 0.5 · supervised contrastive + 0.1 · domain-adversarial

The terms come unweighted; the loop multiplies and adds. The paper writes its formulas for labels 0 and 1
and for whole patches. Where soft labels or MixUp go beyond that, the definitions are:

- a figure counts as AMF where its label is at least 0.5 (`is_atypical`), a tie of two experts included:
  AMF is the class that is more often missed;
- a mixed patch belongs to the class that its mixed label names by the same rule. With hard labels that is
  the class of the heavier component. Leaving mixed batches out would silence the contrastive term altogether
  in a run that mixes every batch, while Beta(0.3, 0.3) puts most mixtures close to one of their components;
- a mixed patch stems from both its domains, to the shares of the mixture (`domain_loss`).
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn

from amf.errors import DataError


def is_atypical(labels: Tensor) -> Tensor:
    """Whether each soft label in [0, 1] counts as AMF: True from 0.5 upwards; any shape, bool."""
    return labels >= 0.5


def positive_class_weight(labels: Tensor) -> float:
    """w₊ = N_NMF / N_AMF of the observed labels (paper, "Adaptive focal loss").

    "Observed" is the caller's choice: with a sampler that already draws AMF more often, give the labels of
    the figures drawn in the epoch, or the rare class is favoured twice.

    Parameters
    ----------
    labels: (N,) soft labels in [0, 1].

    Raises
    ------
    DataError: one of the classes is absent, so the ratio says nothing.
    """
    atypical = int(is_atypical(labels).sum())
    normal = labels.numel() - atypical
    if atypical == 0 or normal == 0:
        raise DataError(
            f"the labels hold {atypical} AMF and {normal} NMF, "
            "but the focal loss takes its class weight from both: give at least one of each"
        )
    return normal / atypical


def adaptive_focal_loss(
    logits: Tensor,
    labels: Tensor,
    positive_weight: float,
    gamma: float = 2.0,
    reduction: Literal["mean", "none"] = "mean",
) -> Tensor:
    """(1 − p_t)^γ · BCE-with-logits(z, y; w₊), p_t = y p + (1 − y)(1 − p) (paper, "Adaptive focal loss").

    For a soft label the same formulas hold as written: p_t is then the probability that the model and an
    expert drawn at random agree. In float32 whatever the logits' type.

    Parameters
    ----------
    logits: (B,) z.
    labels: (B,) y in [0, 1], mixed or not.
    positive_weight: w₊, see `positive_class_weight`.
    gamma: γ, 0 or at least 1 (in between, the slope is infinite at p_t = 1).
    reduction: "mean" for the batch mean, "none" for the (B,) losses.

    Raises
    ------
    ValueError: γ or w₊ is out of range.
    """
    if not (gamma == 0 or gamma >= 1):
        raise ValueError(f"gamma is {gamma}, expected 0 or at least 1")
    if not 0 < positive_weight < math.inf:
        raise ValueError(f"positive_weight is {positive_weight}, expected a positive number")
    z, y = logits.float(), labels.float()
    # 1 − p_t without the cancellation that 1 − (…) suffers for confident logits
    disagreement = y * torch.sigmoid(-z) + (1 - y) * torch.sigmoid(z)
    weight = z.new_tensor(positive_weight)
    bce = F.binary_cross_entropy_with_logits(z, y, pos_weight=weight, reduction="none")
    losses = disagreement**gamma * bce  # (B,)
    return losses.mean() if reduction == "mean" else losses


class SupervisedContrastiveLoss(nn.Module):
    """SupCon on the pairs that the Multi-Similarity miner keeps (paper, "Metric learning components").

    Two figures are a positive pair where `is_atypical` says the same of both. The miner keeps, per anchor,
    the positives less similar than its most similar negative + ε and the negatives more similar than its
    least similar positive − ε; SupCon's numerator and denominator run over the kept pairs only. The mean is
    taken over the anchors with a loss above zero.

    Parameters
    ----------
    temperature: τ of SupCon.
    epsilon: ε of the miner, in units of cosine similarity.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.1) -> None:
        super().__init__()
        self.miner = MultiSimilarityMiner(epsilon=epsilon)
        self.loss = SupConLoss(temperature=temperature)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Embeddings (B, E) of the final hidden layer and labels (B,) in [0, 1] -> scalar.

        Zero, still attached to the embeddings, where the batch yields no positive or no negative pair.
        """
        classes = is_atypical(labels).long()
        # similarities in bf16 are as coarse as 0.004, and the temperature makes that tenfold
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.float(), dim=1)  # (B, E), length 1
            loss: Tensor = self.loss(unit, classes, self.miner(unit, classes))
        return loss


class _GradientReversal(torch.autograd.Function):
    """Identity forwards, −coefficient times the gradient backwards."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * gradients[0], None


def reverse_gradient(features: Tensor, coefficient: float = 1.0) -> Tensor:
    """`features` unchanged, whose gradient comes back multiplied by −`coefficient`."""
    reversed_: Tensor = _GradientReversal.apply(features, coefficient)  # type: ignore[no-untyped-call]
    return reversed_


def reversal_ramp(progress: float) -> float:
    """2 / (1 + exp(−10 p)) − 1: the reversal's coefficient at the share p in [0, 1] of training done.

    It spares the features the noise of a domain head that has learnt nothing yet (Ganin et al. 2016, DANN).
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1


class DomainHead(nn.Module):
    """A linear classifier of the |D| domains behind a gradient reversal (paper, "Foundation Model")."""

    def __init__(self, features: int, domains: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, domains)

    def forward(self, embeddings: Tensor, coefficient: float = 1.0) -> Tensor:
        """Embeddings (B, E) -> domain logits (B, |D|); `coefficient` is the reversal's."""
        logits: Tensor = self.linear(reverse_gradient(embeddings, coefficient))  # (B, |D|)
        return logits


def domain_loss(
    domain_logits: Tensor,
    domains: Tensor,
    partner_domains: Tensor | None = None,
    lambdas: Tensor | None = None,
) -> Tensor:
    """Cross entropy over the domains (paper, "Auxiliary loss"), averaged over the batch.

    A patch mixed as λ · own + (1 − λ) · partner costs λ · CE(own domain) + (1 − λ) · CE(partner's domain).

    Parameters
    ----------
    domain_logits: (B, |D|) of `DomainHead`.
    domains: (B,) int64 domain numbers.
    partner_domains, lambdas: (B,) int64 and float of a mixed batch (see `mixup`); both or neither.
    """
    own = F.cross_entropy(domain_logits.float(), domains, reduction="none")  # (B,)
    if partner_domains is None or lambdas is None:
        return own.mean()
    partner = F.cross_entropy(domain_logits.float(), partner_domains, reduction="none")
    return (lambdas * own + (1 - lambdas) * partner).mean()
