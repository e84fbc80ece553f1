"""The quicker gradients of depthwise convolutions are the usual ones."""

import torch
from torch import nn

from amf.cpu import quicken
from amf.model import backbones


def test_the_quicker_gradients_are_the_same_ones() -> None:
    torch.manual_seed(0)
    network = backbones.build("efficientnet-lite0", {}).eval()  # batch statistics would amplify rounding
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for _ in range(2):
        network.zero_grad()
        network(x).square().sum().backward()
        gradients.append(
            {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        )
        quicken(network)
    assert len(gradients[0]) == len(list(network.parameters()))
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


def test_gradients_of_a_bfloat16_pass_are_those_of_float32_rounded() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 5, 2, groups=16, bias=False)
    x, towards = torch.randn(8, 16, 11, 11).bfloat16(), torch.randn(8, 16, 4, 4).bfloat16()
    expected = torch.autograd.grad((conv(x.float()) * towards.float()).sum(), conv.weight)[0]
    quicken(nn.ModuleList([conv]))
    with torch.autocast("cpu", torch.bfloat16):
        output = conv(x)
    assert output.dtype == torch.bfloat16
    gradient = torch.autograd.grad((output * towards).sum().float(), conv.weight)[0]
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, expected, atol=0.02, rtol=0.01)


def test_convolutions_that_pad_on_their_own_are_left_alone() -> None:
    class Same(nn.Conv2d):
        pass

    kinds = (
        Same(8, 8, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, padding="same"),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, padding_mode="reflect"),
        nn.Conv2d(8, 8, (3, 5), groups=8, bias=False),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, dilation=2),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=4, bias=False),
        nn.Conv2d(8, 8, 3, bias=False),
    )
    plain = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    quicken(nn.ModuleList([*kinds, plain]))
    assert "forward" in vars(plain)
    assert not any("forward" in vars(conv) for conv in kinds)
