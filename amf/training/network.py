"""From a recipe to the network that is trained: weights, adapters, what is frozen, and the domain head."""

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from amf.errors import RecipeError
from amf.model.bundle import fill_computed_buffers
from amf.model.classifier import Classifier
from amf.model.efficientnet_lite import EfficientNetLite
from amf.model.torchvision_shim import ensure_torchvision
from amf.training.pretrained import load_pretrained
from amf.training.recipe import Model
from amf.training.tied_weights import tie


def build_classifier(spec: Model, seed: int) -> Classifier:
    """Build the recipe's network with its weights and adapters, on the CPU, in float32.

    A published backbone is built on the meta device and takes the file's tensors as they are; the head
    and the adapters are drawn from `seed`, which sets torch's global generator.

    Raises
    ------
    RecipeError : arguments that the backbone refuses, weights that are absent or of another network, adapter
        targets that match nothing.
    """
    torch.manual_seed(seed)
    if spec.weights == "random":
        return built(spec)
    if spec.weights != "imagenet":
        ensure_torchvision()
        from timm.layers import set_fast_norm  # timm takes seconds to import

        set_fast_norm()  # autocast would copy every token to float32 and back around each layer norm
    with torch.device("meta"):
        classifier = built(spec)
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
    elif spec.frozen_blocks:
        freeze_front(classifier, spec.frozen_blocks)
    return classifier


def freeze_front(classifier: Classifier, blocks: int) -> None:
    """Freeze an EfficientNet-Lite's stem and first blocks: their feature maps are large and cost the most.

    Raises
    ------
    RecipeError : it has fewer blocks.
    """
    backbone = cast(EfficientNetLite, classifier.backbone)
    if blocks > len(backbone.blocks):
        raise RecipeError(
            f"model.frozen_blocks is {blocks}, expected at most the network's {len(backbone.blocks)}"
        )
    backbone.stem.requires_grad_(False)
    backbone.blocks[:blocks].requires_grad_(False)


def built(spec: Model) -> Classifier:
    """The recipe's network without its weights or adapters. Raises RecipeError for arguments it refuses."""
    try:
        classifier = Classifier(spec.backbone, spec.arguments, spec.head)
        if spec.symmetric:
            tie(classifier)
        return classifier
    except ValueError as error:
        raise RecipeError(f"model.arguments: {error}") from error


def hold_frozen_in(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep frozen weights in the compute type alone: a second copy in float32 would double their memory.

    Batch norms stay as they are: their statistics are float32, and their weights must match.
    """
    for part in module.modules():
        if not isinstance(part, _BatchNorm):
            for parameter in part.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


def recompute_activations(classifier: Classifier, share: float) -> None:
    """Let a share of a timm model's blocks, spread evenly, keep their input only and run again going back.

    Memory falls and time rises with the share: all blocks cost a second forward pass.

    Raises
    ------
    RecipeError : the model is not a sequence of blocks.
    """
    blocks = getattr(getattr(classifier.backbone, "model", None), "blocks", None)
    if blocks is None:
        raise RecipeError("optimise.activation_checkpointing: this backbone has no blocks to recompute")
    for index, block in enumerate(blocks):
        if int((index + 1) * share) > int(index * share):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters as an optimiser's two groups: with weight decay, and exempt from it.

    Exempt is what has one axis (norms, biases, layer scales) and what a timm model names itself (tokens and
    positions), as in timm.optim, whose import takes seconds.
    """
    exempt: set[str] = set()
    for part in module.modules():
        if (names := getattr(part, "no_weight_decay", None)) is not None:
            exempt |= set(names())
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            keep = parameter.ndim <= 1 or name.rpartition(".")[2] in exempt
            (kept if keep else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """What training changes, sharing memory: trainable parameters, statistics of trainable batch norms.

    The frozen part of a foundation model is left out: its file is at hand, and it is large.
    """
    if all(parameter.requires_grad for parameter in module.parameters()):
        return dict(module.state_dict())
    learnt = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm) and any(p.requires_grad for p in part.parameters(recurse=False)):
            learnt |= {f"{name}.{buffer}" for buffer, _ in part.named_buffers(recurse=False)}
    return {name: tensor for name, tensor in module.state_dict().items() if name in learnt}
