"""From a recipe to the network that is trained: weights, adapters, what is frozen, and the domain head."""

import torch
from torch import Tensor, nn

from amf.bundle import fill_computed_buffers
from amf.classifier import Classifier
from amf.training.losses import DomainHead
from amf.training.pretrained import load_pretrained
from amf.training.recipe import Model


class Trainee(nn.Module):
    """A classifier and, for training alone, its domain head."""

    def __init__(self, classifier: Classifier, domains: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.domain_head = DomainHead(classifier.embedding_size, domains)

    def forward(self, x: Tensor, reversal: float) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, S, S) → logits (B,), embeddings (B, E), domain logits (B, |D|)."""
        logits, embeddings = self.classifier(x)
        return logits, embeddings, self.domain_head(embeddings, reversal)


def build_classifier(spec: Model, seed: int) -> Classifier:
    """Build the recipe's network with its weights and adapters, on the CPU, in float32.

    A published backbone is built on the meta device and takes the file's tensors as they are; the head
    and the adapters are drawn from `seed`.

    Raises
    ------
    RecipeError : weights that are absent or of another network, adapter targets that match nothing.
    """
    torch.manual_seed(seed)
    if spec.weights == "random":
        return Classifier(spec.backbone, spec.arguments, spec.head)
    with torch.device("meta"):
        classifier = Classifier(spec.backbone, spec.arguments, spec.head)
    load_pretrained(classifier.backbone, spec.backbone, spec.weights)
    for part in (classifier.hidden, classifier.logit):
        part.to_empty(device="cpu")
        for module in part.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    fill_computed_buffers(classifier)
    if spec.lora:
        from amf.training.lora import adapt  # PEFT takes seconds to import

        adapt(classifier.backbone, spec.lora)
    elif spec.train == "head":
        classifier.backbone.requires_grad_(False)
    return classifier


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """What training changes: parameters with a gradient, and the floating-point buffers of layers that learn.

    The frozen part of a foundation model is left out: its file is at hand, and it is large.
    """
    state: dict[str, Tensor] = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if len(state) == sum(1 for _ in module.parameters()):
        state.update(module.named_buffers())
    return {name: tensor.detach() for name, tensor in state.items()}
