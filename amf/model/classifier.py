"""Backbone + MLP head → one logit, and the embedding before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from amf.model import backbones

CLASSES = ("normal", "atypical")
"""The two answers; the logit is that of the second."""


@dataclass(frozen=True)
class HeadSpec:
    """Shape of the MLP head (paper, Model Architecture: a compact MLP that produces a single logit).

    `hidden` units between the backbone's embedding and the logit; 0 makes the head linear.
    `dropout` acts on the hidden units, in training only.
    """

    hidden: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.hidden <= 65536 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"hidden {self.hidden} and dropout {self.dropout}: expected 0 to 65536 and 0 <= dropout < 1"
            )


class Classifier(nn.Module):
    """One member: everything between a normalised input and its logit.

    The head lives beside the backbone, not inside, so that adapters wrap the backbone alone. With `to_serve`
    it is for inference alone, see `backbones.build`.
    """

    def __init__(
        self, backbone: str, arguments: Mapping[str, Any], head: HeadSpec, to_serve: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbones.build(backbone, arguments, to_serve)
        features = int(self.backbone.embedding_size)  # type: ignore[arg-type]
        self.hidden: nn.Module = nn.Identity()
        self.dropout: nn.Module = nn.Identity()
        if head.hidden:
            self.hidden = nn.Sequential(nn.Linear(features, head.hidden), nn.GELU())
            self.dropout = nn.Dropout(head.dropout)
        self.embedding_size = head.hidden or features
        self.logit = nn.Linear(self.embedding_size, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) normalised → logits (B,) of P(atypical), embeddings (B, embedding_size).

        The embedding is the final hidden layer's, before dropout: the contrastive loss sees every unit.
        """
        embedding = self.hidden(self.backbone(x))  # (B, embedding_size)
        return self.logit(self.dropout(embedding)).squeeze(1), embedding

    def prepare_for_inference(self) -> None:
        """Let a backbone that can prepare itself do so, in place, once its weights are those to be served.

        It does so in float32: what it folds together is rounded once, when it is cast to another type.
        """
        if (prepare := getattr(self.backbone, "prepare_for_inference", None)) is not None:
            self.backbone.float()
            prepare()
