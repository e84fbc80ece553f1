"""Published weights come whole or not at all."""

from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from amf.errors import RecipeError
from amf.model import backbones
from amf.model.classifier import Classifier, HeadSpec
from amf.training.pretrained import load_pretrained
from test.support.small import FAMILIES, VIT, publish


@pytest.fixture
def state(tmp_path: Path) -> dict[str, Tensor]:
    return load_file(publish(tmp_path / "published.safetensors", "h-optimus-0"))


def load(source: Path | str, backbone: str = "h-optimus-0") -> torch.nn.Module:
    with torch.device("meta"):
        built = backbones.build(backbone, VIT)
    load_pretrained(built, backbone, str(source))
    return built.model


def refused(source: Path | str) -> str:
    with pytest.raises(RecipeError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("backbone", FAMILIES)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_local_file_fills_the_backbone(tmp_path: Path, backbone: str, suffix: str) -> None:
    published = load_file(publish(tmp_path / "weights.safetensors", backbone))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".bin":
        torch.save(published, path)
    loaded = load(path, backbone).state_dict()
    assert loaded.keys() == published.keys()
    assert all(torch.equal(loaded[name], published[name]) for name in published)


def test_half_precision_is_widened_and_the_publishers_classifier_left_out(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    path = tmp_path / "half.safetensors"
    save_file({k: v.half() for k, v in state.items()} | {"head.weight": torch.zeros(5, 32).half()}, path)
    loaded = load(path).state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in loaded.values())
    torch.testing.assert_close(loaded["norm.weight"], state["norm.weight"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda s: s.pop("norm.weight"),
            "1 tensors missing, 0 too many, 0 of another shape, norm.weight among",
        ),
        (
            lambda s: s.update(extra=torch.zeros(1)),
            "0 tensors missing, 1 too many, 0 of another shape, extra",
        ),
        (lambda s: s.update({"norm.bias": torch.zeros(3)}), "0 too many, 1 of another shape, norm.bias"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, state: dict[str, Tensor], edit: Any, message: str
) -> None:
    edit(state)
    save_file(state, tmp_path / "other.safetensors")
    assert message in refused(tmp_path / "other.safetensors")


class Trap:
    """A pickle of it makes a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return (Path.touch, (self.path,))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"norm.weight": Trap(tmp_path / "sprung")}, tmp_path / "trap.bin")
    assert "trap.bin cannot be read as weights" in refused(tmp_path / "trap.bin")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_a_truncated_file_or_one_of_something_else_is_refused(
    tmp_path: Path, suffix: str, state: dict[str, Tensor]
) -> None:
    path = tmp_path / f"short.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    for size in (0, len(whole) - 500):
        path.write_bytes(whole[:size])
        assert f"{path.name} cannot be read as weights" in refused(path)
    torch.save({"state": {"norm.weight": 1}}, tmp_path / "other.bin")
    assert "expected a state dict of tensors" in refused(tmp_path / "other.bin")
    assert "none.bin is not there" in refused(tmp_path / "none.bin")


def test_a_hub_out_of_reach_is_one_sentence_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    message = refused("hub")
    assert "neither in the hub's cache nor to be had from bioptimus/H-optimus-0" in message
    assert "local copy of pytorch_model.bin" in message


def test_a_backbone_that_is_on_no_hub_says_so() -> None:
    with pytest.raises(RecipeError, match="backbone compact has no weights on the hub"):
        load_pretrained(backbones.build("compact", {}), "compact", "hub")


def test_the_best_weights_of_our_own_run_fill_a_backbone(tmp_path: Path) -> None:
    trained = Classifier("h-optimus-0", VIT, HeadSpec(8))
    save_file(trained.state_dict(), tmp_path / "best.safetensors")
    loaded = load(tmp_path / "best.safetensors")
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, trained.backbone.state_dict()[f"model.{name}"])
