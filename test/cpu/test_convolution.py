"""Packed convolutions give the plain layers' numbers, alone and with the activation behind them."""

import pytest
import torch
from torch import nn

from amf.cpu.convolution import PackedConvolution, pack_convolutions
from amf.model import backbones


@pytest.mark.parametrize("activation", [None, nn.ReLU(), nn.ReLU6()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 16])
def test_a_packed_convolution_is_the_plain_one(
    activation: nn.Module | None, dtype: torch.dtype, groups: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, 3, 2, padding=1, groups=groups).to(dtype).requires_grad_(False)
    x = (torch.randn(3, 16, 9, 9) * 9).to(dtype).contiguous(memory_format=torch.channels_last)
    expected = conv(x) if activation is None else activation(conv(x))
    given = PackedConvolution(conv, activation)(x)
    assert given.dtype == dtype
    assert expected.std() > 1
    assert activation is None or (expected == 0).any()
    torch.testing.assert_close(given, expected, atol=0 if dtype == torch.bfloat16 else 1e-5, rtol=0)


@pytest.mark.parametrize(("name", "activated", "side"), [("compact", 16, 64), ("efficientnet-lite0", 33, 96)])
def test_a_networks_convolutions_are_all_packed(name: str, activated: int, side: int) -> None:
    torch.manual_seed(0)
    network = backbones.build(name, {}).eval().requires_grad_(False)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    network.prepare_for_inference()  # type: ignore[operator]
    x = torch.randn(2, 3, side, side).contiguous(memory_format=torch.channels_last)
    expected = network(x)
    pack_convolutions(network)
    packed = [module for module in network.modules() if isinstance(module, PackedConvolution)]
    assert not any(isinstance(module, nn.Conv2d) for module in network.modules())
    assert sum(module._fused[0] != "none" for module in packed) == activated
    assert expected.std() > 0.05
    torch.testing.assert_close(network(x), expected, atol=2e-4, rtol=1e-4)


def test_what_the_kernel_does_not_know_is_left_alone() -> None:
    class Same(nn.Conv2d):
        pass

    kinds = (
        Same(3, 8, 3),
        nn.Conv2d(3, 8, 3, padding="same"),
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
        nn.Sequential(Same(3, 8, 3), nn.ReLU()),
        nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.ReLU()),
    )
    network = nn.ModuleList(kinds)
    pack_convolutions(network)
    assert tuple(network) == kinds
    assert not any(isinstance(module, PackedConvolution) for module in network.modules())

    plain = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU()))
    pack_convolutions(plain)
    assert isinstance(plain[0][0], PackedConvolution)
    assert isinstance(plain[0][1], nn.GELU)
