"""Small members of the foundation models' families, and files of "published" weights for them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from amf.model import backbones
from amf.training.recipe import Recipe, parse_recipe

# layer scale 1: with the published 1e-5 the blocks, and the adapters in them, would hardly act
VIT = {"img_size": 28, "depth": 2, "embed_dim": 32, "num_heads": 2, "init_values": 1.0}
FAMILIES = {"h-optimus-0": VIT, "virchow2": VIT}
TARGETS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def publish(path: Path, backbone: str, arguments: dict[str, Any] = VIT) -> Path:
    """Write random weights in timm's naming, as a publisher would."""
    torch.manual_seed(7)
    save_file(backbones.build(backbone, arguments).model.state_dict(), path)
    return path


def adapted_recipe(weights: Path, backbone: str = "h-optimus-0", **sections: Any) -> Recipe:
    """LoRA on a small ViT, small patches, everything of the paper's method switched on."""
    model = {
        "backbone": backbone,
        "arguments": VIT,
        "weights": str(weights),
        "train": "lora",
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.1, "targets": TARGETS},
        "hidden": 16,
        "field_of_view_px": 64,
        "input_px": 28,
    }
    content = {"name": "small", **sections, "model": model | sections.get("model", {})}
    return parse_recipe(content, "small")


def compact_recipe(**sections: Any) -> Recipe:
    """The compact network with tiny widths, everything of the paper's method switched on."""
    model = {
        "backbone": "compact",
        "arguments": {"widths": [8, 16], "blocks": [1, 1]},
        "weights": "random",
        "train": "all",
        "hidden": 8,
        "field_of_view_px": 64,
        "input_px": 32,
    }
    optimise = {"epochs": 4, "batch": 16, "learning_rate": 0.01, "ema": 0.9, "patience": 10}
    content = {"name": "tiny", "model": model, **sections}
    return parse_recipe(content | {"optimise": optimise | sections.get("optimise", {})}, "tiny")
