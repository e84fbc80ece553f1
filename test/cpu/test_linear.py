"""Packed and int8 layers give what the plain ones give."""

import pytest
import torch

from amf.cpu import linear
from amf.model import backbones
from amf.model.int8 import Int8Linear

SMALL = {"img_size": 56, "depth": 2, "embed_dim": 48, "num_heads": 3, "init_values": 0.5}
needs_kernel = pytest.mark.skipif(
    linear.reason_against_int8() is not None, reason=str(linear.reason_against_int8())
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float32, 1e-5)])
def test_packed_layers_give_what_plain_ones_give(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    network = backbones.build("h-optimus-0", SMALL, to_serve=True).eval().to(dtype)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    x = torch.randn(3, 3, 56, 56).to(dtype)
    with torch.inference_mode():
        plain = network(x)
        linear.pack_linears(network)
        kinds = [type(layer) for layer in network.modules()]
        assert kinds.count(linear.PackedLinear) == 4 * SMALL["depth"]
        assert torch.nn.Linear not in kinds
        assert plain.std() > 5 * tolerance
        torch.testing.assert_close(network(x), plain, rtol=tolerance, atol=tolerance)


@needs_kernel
def test_the_packed_layer_gives_what_its_formula_gives_whatever_the_other_rows() -> None:
    torch.manual_seed(0)
    layer = Int8Linear(64, 48).requires_grad_(False)
    layer.weight.data = torch.randint(-127, 128, (48, 64), dtype=torch.int8)
    layer.weight_scale.data, layer.bias.data = torch.rand(48) * 0.01 + 0.001, torch.randn(48).bfloat16()
    x = torch.randn(6, 64).bfloat16()
    packed = linear.PackedInt8Linear(layer)
    given = packed(x)
    step = x.float().abs().amax(1, keepdim=True) / 127
    rounded = (x.float() / step).round() * step
    expected = rounded @ layer.whole_weight().T + layer.bias.float()
    torch.testing.assert_close(given.float(), expected, rtol=0.02, atol=0.02)
    louder = torch.cat([x[:3], 1000 * x[3:]])
    assert torch.equal(packed(louder)[:3], given[:3])
    assert torch.equal(packed(torch.zeros(1, 64).bfloat16())[0], layer.bias)
