"""From a recipe to the network that is trained: weights, adapters, and what is frozen.

Adapters are PEFT's LoRA (Hu et al., ICLR 2022; paper, "Foundation Model"). timm and PEFT take seconds to
import and are imported where a recipe needs them.
"""

from functools import partial
from pathlib import Path
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
from amf.training.recipe import Lora, Model
from amf.training.tied_weights import tie


def build_classifier(spec: Model, seed: int) -> Classifier:
    """Build the recipe's network with its weights and adapters, on the CPU, in float32.

    A published backbone is built on the meta device and takes the file's tensors as they are; the head
    and the adapters are drawn from `seed`, which sets torch's global generator.

    Raises
    ------
    RecipeError : the backbone refuses its arguments, the weights are absent or of another network, an adapter
        target matches no layer.
    """
    torch.manual_seed(seed)
    if spec.weights == "random":
        return without_weights(spec)
    if spec.weights != "imagenet":
        fuse_norms(True)
    with torch.device("meta"):
        classifier = without_weights(spec)
    load_pretrained(classifier.backbone, spec.backbone, spec.weights)
    for part in (classifier.hidden, classifier.logit):
        part.to_empty(device="cpu")
        for module in part.modules():
            if isinstance(module, nn.Linear):
                module.reset_parameters()
    fill_computed_buffers(classifier)
    freeze(classifier, spec)
    return classifier


def fuse_norms(fused: bool) -> None:
    """Choose the layer norms of timm networks that this process builds from now on.

    Around plain ones autocast copies every token to float32 and back. Fused ones need autocast, which meta
    tensors lack.
    """
    ensure_torchvision()
    from timm.layers import set_fast_norm

    set_fast_norm(fused)


def without_weights(spec: Model) -> Classifier:
    """The recipe's network before its weights and adapters. Raises RecipeError for arguments it refuses."""
    try:
        classifier = Classifier(spec.backbone, spec.arguments, spec.head)
        if spec.symmetric:
            tie(classifier)
        return classifier
    except ValueError as error:
        raise RecipeError(f"model.arguments: {error}") from error


def freeze(classifier: Classifier, spec: Model) -> None:
    """Freeze what the recipe does not train, and add its adapters; in place. Raises RecipeError."""
    if spec.lora:
        adapt(classifier.backbone, spec.lora)
    elif spec.train == "head":
        classifier.backbone.requires_grad_(False)
    elif spec.frozen_blocks:
        backbone = cast(EfficientNetLite, classifier.backbone)
        if spec.frozen_blocks > len(backbone.blocks):
            raise RecipeError(
                f"model.frozen_blocks is {spec.frozen_blocks}, expected at most the network's "
                f"{len(backbone.blocks)}"
            )
        backbone.stem.requires_grad_(False)
        backbone.blocks[: spec.frozen_blocks].requires_grad_(False)


def adapt(backbone: nn.Module, spec: Lora) -> None:
    """Freeze a timm backbone and put adapters on its targets, in place; only the adapters are trainable.

    The head lies outside the adapted model, so PEFT need not know of it.

    Raises
    ------
    RecipeError : a target matches no layer, or one that cannot be adapted.
    """
    ensure_torchvision()  # PEFT imports transformers, which imports torchvision
    from peft import LoraConfig, get_peft_model

    backbone.requires_grad_(False)
    model: nn.Module = backbone.model  # type: ignore[assignment]
    for target in spec.targets:
        if not any(f".{name}".endswith(f".{target}") for name, _ in model.named_modules()):
            raise RecipeError(f"lora.targets: {target!r} matches no layer of {type(model).__name__}")
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
        bias="none",
    )
    try:
        backbone.model = get_peft_model(model, config)
    except ValueError as error:  # PEFT's sentence names the layer
        raise RecipeError(f"lora.targets: {error}") from error


def save_adapter(backbone: nn.Module, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, as PeftModel.from_pretrained reads them."""
    backbone.model.save_pretrained(folder)  # type: ignore[operator, union-attr]


def merge_adapters(backbone: nn.Module) -> None:
    """Fold the adapters into the weights, W + (alpha / r) B A in float32, and drop PEFT, in place.

    A merge that fails leaves the backbone as it was: the weights change only after all sums are finite.

    Raises
    ------
    ValueError : a merged weight is not finite; its name is given.
    """
    adapted: Any = backbone.model
    for name, module in adapted.named_modules():
        if hasattr(module, "get_delta_weight"):
            merged = module.get_base_layer().weight.float() + module.get_delta_weight("default").float()
            if not torch.isfinite(merged).all():
                raise ValueError(f"merging the adapter of {name} gives weights that are not finite")
    backbone.float()
    backbone.model = adapted.merge_and_unload()


def cast_frozen(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep frozen weights in the compute type only: a second copy in float32 would double their memory.

    Batch norms stay as they are: their statistics are float32, and their weights must match.
    """
    for part in module.modules():
        if not isinstance(part, _BatchNorm):
            for parameter in part.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(dtype)


def recompute_activations(classifier: Classifier, share: float) -> None:
    """Let a share of a timm model's blocks keep their input only and run again in the backward pass.

    The blocks are spaced evenly. Memory falls and time rises with the share: all blocks cost a second forward
    pass.

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
    """The trainable parameters as an optimiser's two groups: with weight decay, and without.

    One-dimensional parameters (norms, biases, layer scales) get none, nor what a timm model names itself
    (tokens and positions); as timm.optim does, whose import takes seconds.
    """
    exempt = {
        name
        for part in module.modules()
        if hasattr(part, "no_weight_decay")
        for name in part.no_weight_decay()  # type: ignore[operator]
    }
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
