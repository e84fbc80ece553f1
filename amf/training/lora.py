"""Low-rank adapters through PEFT: adapt a backbone, save and load in PEFT's own format, merge.

LoRA: low-rank adaptation of large language models (Hu et al., ICLR 2022); paper, Foundation Model.
"""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from amf.errors import RecipeError
from amf.training.recipe import Lora
from amf.vision_operators import ensure_torchvision

ensure_torchvision()  # PEFT imports transformers, and that torchvision

from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict  # noqa: E402
from peft.utils import load_peft_weights  # noqa: E402


def adapt(backbone: nn.Module, spec: Lora) -> None:
    """Freeze a timm backbone and put adapters on its targets, in place; the adapters alone are trainable.

    The head lies outside the adapted model, so PEFT need not know of it.

    Raises
    ------
    RecipeError : a target matches no layer.
    """
    backbone.requires_grad_(False)
    names = [name for name, _ in backbone.model.named_modules()]  # type: ignore[union-attr]
    for target in spec.targets:
        if not any(name.endswith(target) for name in names):
            raise RecipeError(f"lora.targets: {target!r} matches no layer of {type(backbone.model).__name__}")
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.targets),
        bias="none",
    )
    backbone.model = get_peft_model(backbone.model, config)


def save_adapter(backbone: nn.Module, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, as PeftModel.from_pretrained reads them."""
    backbone.model.save_pretrained(folder)  # type: ignore[operator, union-attr]


def load_adapter(backbone: nn.Module, folder: Path) -> None:
    """Load a saved adapter into an adapted backbone, in place."""
    set_peft_model_state_dict(_peft(backbone), load_peft_weights(str(folder), device="cpu"))


def merge(backbone: nn.Module) -> None:
    """Fold the adapters into the weights, W + (alpha / r) B A in float32, and drop PEFT, in place.

    A merge that fails leaves the backbone as it was: the weights change only after all sums are finite.

    Raises
    ------
    ValueError : a merged weight is not finite; its name is given.
    """
    adapted = _peft(backbone)
    for name, module in adapted.named_modules():
        if hasattr(module, "get_delta_weight"):
            base: Any = module.get_base_layer()
            merged = base.weight.float() + module.get_delta_weight("default").float()
            if not torch.isfinite(merged).all():
                raise ValueError(f"merging the adapter of {name} gives weights that are not finite")
    backbone.float()
    backbone.model = adapted.merge_and_unload()


def _peft(backbone: nn.Module) -> PeftModel:
    model = backbone.model
    if not isinstance(model, PeftModel):
        raise TypeError(f"the backbone holds a {type(model).__name__}, expected one that was adapted")
    return model
