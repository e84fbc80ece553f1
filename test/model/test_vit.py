"""Our vision transformer is timm's."""

from typing import Any

import pytest
import torch

from amf.model import backbones
from amf.model.backbones import VitBackbone
from amf.model.vit import GROUP_PAGES, shape_of

SMALL = {"img_size": 56, "depth": 2, "embed_dim": 48, "num_heads": 3, "init_values": 0.5}
FAMILIES = ["h-optimus-0", "h-optimus-1", "virchow2", "uni2-h"]


def twins(name: str, arguments: dict[str, Any]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Timm's network and ours, of the same random weights, none of which leaves its layer without effect."""
    torch.manual_seed(0)
    theirs = backbones.build(name, arguments).eval()
    for parameter in theirs.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    ours = backbones.build(name, arguments, to_serve=True).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.mark.parametrize("name", FAMILIES)
def test_ours_has_timms_names_and_gives_its_embedding(name: str) -> None:
    theirs, ours = twins(name, SMALL)
    assert isinstance(ours, VitBackbone)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(GROUP_PAGES + 1, 3, 56, 56)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["virchow2", "uni2-h"])
def test_images_of_another_size_take_interpolated_positions(name: str) -> None:
    theirs, ours = twins(name, SMALL)
    x = torch.randn(1, 3, 84, 70)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"class_token": False}, {"reg_tokens": 0}, {"init_values": None}, {"mlp_layer": "Mlp"},
        {"global_pool": "avg"},
    ],
)  # fmt: skip
def test_any_other_network_is_left_to_timm(change: dict[str, Any]) -> None:
    assert shape_of("vit_giant_patch14_reg4_dinov2", "cls", SMALL) is not None
    assert shape_of("vit_giant_patch14_reg4_dinov2", "cls", {**SMALL, **change}) is None
    assert shape_of("vit_tiny_patch16_224", "cls", SMALL) is None
    assert shape_of("vit_giant_patch14_reg4_dinov2", "native", SMALL) is None
