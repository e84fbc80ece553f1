"""The paper's workflow on miniatures: tiny networks, drawn figures, repositories on the loopback address."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml

from amf.data.repositories import MIRROR
from amf.model import backbones
from amf.model.backbones import BACKBONES
from test.support.loopback import Server, serve
from test.support.paths import ROOT
from test.support.publishers import publish_all, publish_hub
from test.support.small import TARGETS, VIT

TOKEN = "hf_drawn"
MODEL = {
    "arguments": VIT,
    "weights": "hub",
    "train": "lora",
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.1, "targets": TARGETS},
    "hidden": 8,
    "field_of_view_px": 64,
    "input_px": 28,
}
COMPACT = {
    "backbone": "compact", "arguments": {"widths": [4, 8], "blocks": [1, 1]}, "weights": "random",
    "train": "all", "hidden": 8, "field_of_view_px": 32, "input_px": 32,
}  # fmt: skip
OPTIMISE = {"epochs": 8, "batch": 16, "learning_rate": 3e-3, "precision": "float32"}
CONFIGURATION = {  # HERE stands for its folder
    "fetch": {"ami-br": None},
    "root": "published",
    "accept_licence": True,
    "data": "HERE/data.yaml",
    "domains": 2,
    "grid": "HERE/grid.yaml",
    "others": ["HERE/virchow2.yaml"],
    "ablation": {"recipe": "HERE/ablation.yaml", "data": "HERE/data.yaml", "folds": 2},
    "threads": 1,
    "mem_mb": 2000,
    "gpus": 0,
    "launch": "python",
    "retries": 2,
    "image": "",
    "build_options": "",
}


def write_configuration(folder: Path, **changes: Any) -> Path:
    """The miniature's configuration and recipes; returns the configuration."""
    recipe = {"augmentation": "flip_rotate", "optimise": OPTIMISE}
    contents = {
        "grid": {
            "name": "h-optimus-0",
            "model": {"backbone": "h-optimus-0", **MODEL},
            **recipe,
            "grid": {"model.lora.rank": [2, 4]},
        },
        "virchow2": {"name": "virchow2", "model": {"backbone": "virchow2", **MODEL}, **recipe},
        "ablation": {
            "name": "ablation",
            "model": COMPACT,
            "loss": {"contrastive": 0},
            "optimise": OPTIMISE | {"epochs": 1},
            "variants": {"medium": {"augmentation": "medium"}},
        },
        "data": {"sources": [{"source": "amibr"}]},
        "configuration": {**CONFIGURATION, **changes},
    }
    folder.mkdir(parents=True)
    for name, content in contents.items():
        text = yaml.safe_dump(content, sort_keys=False).replace("HERE", str(folder))
        (folder / f"{name}.yaml").write_text(text)
    return folder / "configuration.yaml"


def small_weights(backbone: str) -> bytes:
    """A `pytorch_model.bin` with random weights in the published model's own names."""
    torch.manual_seed(7)
    buffer = io.BytesIO()
    torch.save(backbones.build(backbone, VIT).model.state_dict(), buffer)
    return buffer.getvalue()


@contextmanager
def published() -> Iterator[Server]:
    """The data repositories, and the hub behind its gate."""
    with serve() as running:
        publish_all(running)
        for backbone in ("h-optimus-0", "virchow2"):
            entry = BACKBONES[backbone]
            publish_hub(running, str(entry.hub), entry.checkpoint, small_weights(backbone), TOKEN)
        yield running


def environment(server: Server, cache: Path) -> dict[str, str]:
    """What a shell with a token has: all hosts on the loopback address, a cache of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        MIRROR: server.url,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(cache),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1,localhost",
    }


def snakemake(config: Path, folder: Path, *more: str) -> list[str]:
    """The command that runs the workflow in a folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile")]
    return [*command, "--configfile", str(config), "--directory", str(folder), *more]
