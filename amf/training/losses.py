"""What training minimises (paper, "Model Architecture and Training"), and the domain head that it needs.

    total = adaptive focal + 0.5 · supervised contrastive + 0.1 · domain-adversarial

The terms come unweighted; the loop multiplies and adds. The paper writes its formulas for labels 0 and 1
and for whole patches. Soft labels and MixUp go beyond that; the definitions here are:

- a figure counts as AMF where its label is at least 0.5, so on a tie of two experts too: AMF is the class
  that is missed more often;
- a mixed patch has the class of its mixed label by the same rule. With hard labels that is the class of the
  heavier component. Without mixed batches the contrastive term would be silent in a run that mixes every
  batch, while Beta(0.3, 0.3) puts most mixtures close to one of their components;
- a mixed patch belongs to both its domains, by the shares of the mixture.
"""

import math
from typing import Any, Literal

import torch
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from amf.errors import DataError
from amf.model.classifier import Classifier


def positive_class_weight(labels: Tensor) -> float:
    """w₊ = N_NMF / N_AMF of (N,) soft labels in [0, 1] (paper, "Adaptive focal loss").

    Whose labels is the caller's choice: with a sampler that already draws AMF more often, give the labels of
    the figures drawn in the epoch, or the rare class is favoured twice.

    Raises
    ------
    DataError : one of the classes is absent.
    """
    atypical = int((labels >= 0.5).sum())
    normal = labels.numel() - atypical
    if atypical == 0 or normal == 0:
        raise DataError(
            f"the labels hold {atypical} AMF and {normal} NMF, expected at least one of each: the focal loss "
            "takes its class weight from both"
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

    For a soft label p_t is the probability that the model and an expert drawn at random agree.

    Parameters
    ----------
    logits : (B,) z, computed with in float32. labels : (B,) y in [0, 1], mixed or not.
    positive_weight : w₊, see `positive_class_weight`.
    gamma : γ, 0 or at least 1 (in between, the slope is infinite at p_t = 1).
    reduction : "mean" for the batch mean, "none" for the (B,) losses.
    """
    z, y = logits.float(), labels.float()
    # 1 − p_t without the cancellation that 1 − (…) suffers for confident logits
    disagreement = y * torch.sigmoid(-z) + (1 - y) * torch.sigmoid(z)
    weight = z.new_tensor(positive_weight)
    bce = functional.binary_cross_entropy_with_logits(z, y, pos_weight=weight, reduction="none")
    losses = disagreement**gamma * bce  # (B,)
    return losses.mean() if reduction == "mean" else losses


class SupervisedContrastiveLoss(nn.Module):
    """SupCon on the pairs that the Multi-Similarity miner keeps (paper, "Metric learning components").

    The miner keeps, for each anchor, the positives less similar than its most similar negative + ε and the
    negatives more similar than its least similar positive − ε; SupCon sums over these pairs. The mean is
    taken over the anchors with a loss above zero.

    Parameters
    ----------
    temperature : τ of SupCon. epsilon : ε of the miner, in units of cosine similarity.
    """

    def __init__(self, temperature: float = 0.1, epsilon: float = 0.1) -> None:
        super().__init__()
        self.miner = MultiSimilarityMiner(epsilon=epsilon)
        self.loss = SupConLoss(temperature=temperature)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Embeddings (B, E) of the final hidden layer and labels (B,) in [0, 1] → scalar.

        Zero, and still attached to the embeddings, where the miner keeps no pair.
        """
        classes = (labels >= 0.5).long()
        # bf16 similarities are as coarse as 0.004, which the temperature multiplies by ten
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = functional.normalize(embeddings.float(), dim=1)  # (B, E), length 1
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
        """Embeddings (B, E) → domain logits (B, |D|); `coefficient` is the reversal's."""
        reversed_: Tensor = _GradientReversal.apply(embeddings, coefficient)  # type: ignore[no-untyped-call]
        logits: Tensor = self.linear(reversed_)  # (B, |D|)
        return logits


def domain_loss(domain_logits: Tensor, domains: Tensor, partner_domains: Tensor, lambdas: Tensor) -> Tensor:
    """λ · CE(own domain) + (1 − λ) · CE(partner's domain), batch mean (paper, "Auxiliary loss").

    Parameters
    ----------
    domain_logits : (B, |D|). domains, partner_domains : (B,) int64 domain numbers.
    lambdas : (B,) float, each patch's own share in its mixture; 1 where it is not mixed.
    """
    own = functional.cross_entropy(domain_logits.float(), domains, reduction="none")  # (B,)
    partner = functional.cross_entropy(domain_logits.float(), partner_domains, reduction="none")
    return (lambdas * own + (1 - lambdas) * partner).mean()


class Trainee(nn.Module):
    """A classifier and, for training only, its domain head."""

    def __init__(self, classifier: Classifier, domains: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.domain_head = DomainHead(classifier.embedding_size, domains)

    def forward(self, x: Tensor, reversal: float) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, S, S) → logits (B,), embeddings (B, E), domain logits (B, |D|)."""
        logits, embeddings = self.classifier(x)
        return logits, embeddings, self.domain_head(embeddings, reversal)

    def train(self, mode: bool = True) -> "Trainee":
        """Switch the mode, but leave a frozen backbone and frozen batch norms in evaluation mode."""
        super().train(mode)
        backbone = self.classifier.backbone
        if not any(p.requires_grad for p in backbone.parameters()):
            backbone.eval()
        for module in backbone.modules():
            if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self
