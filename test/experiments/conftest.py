"""A tiny recipe, drawn figures in three domains, and a LODO run of both."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.state import AcceleratorState, PartialState

from amf.cli import main
from test.support.drawn import drawn_table, pack_noise

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "backbone": "compact",
        "arguments": {"widths": [4, 8], "blocks": [1, 1]},
        "weights": "random",
        "train": "all",
        "hidden": 8,
        "dropout": 0,
        "field_of_view_px": 32,
        "input_px": 32,
    },
    "augmentation": "none",
    "mixup": None,
    "loss": {"contrastive": 0},
    "sampling": {"hard_mining": False},
    "optimise": {"epochs": 2, "batch": 32, "learning_rate": 1e-3, "precision": "float32", "monitor": "auc"},
}


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    PartialState._reset_state()


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `amf data` leaves: 120 drawn figures in three domains."""
    return pack_noise(drawn_table(120, domains=3), tmp_path_factory.mktemp("data"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write RECIPE with other sections as a file."""

    def write(name: str = "tiny", **sections: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**RECIPE, "name": name, **sections}))
        return path

    return write


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LODO run of RECIPE, joined."""
    AcceleratorState._reset_state(reset_partial_state=True)
    out = tmp_path_factory.mktemp("lodo")
    (out / "tiny.yaml").write_text(yaml.safe_dump(RECIPE))
    assert main(["lodo", str(out / "tiny.yaml"), "--data", str(data), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="session")
def ensemble_run(data: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LODO run of an ensemble of two recipes, joined."""
    AcceleratorState._reset_state(reset_partial_state=True)
    out = tmp_path_factory.mktemp("ensemble")
    tiny = finished / "tiny.yaml"
    (out / "wide.yaml").write_text(f"base: {tiny}\nname: wide\nmodel: {{hidden: 16}}\n")
    command = ["lodo", str(tiny), str(out / "wide.yaml"), "--data", str(data), "--out", str(out)]
    assert main(command) == 0
    return out
