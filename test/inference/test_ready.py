"""Networks made ready for scoring give the logits that they gave before, whoever wrote them."""

from typing import Any

import pytest
import torch

from amf.cpu.convolution import PackedConvolution
from amf.cpu.linear import PackedLinear
from amf.inference.ready import make_ready
from amf.model.classifier import Classifier, HeadSpec

CPU = torch.device("cpu")
VIT = {"img_size": 56, "embed_dim": 48, "depth": 2, "num_heads": 4}


@pytest.mark.parametrize(
    ("backbone", "arguments", "side", "packed"),
    [
        ("compact", {"widths": [8, 16], "blocks": [1, 1]}, 32, PackedConvolution),
        ("h-optimus-0", VIT, 56, PackedLinear),
        ("timm", {"model_name": "resnet18"}, 64, None),
        # These two read weights or shapes from their layers, which packed ones have not.
        ("timm", {"model_name": "eva02_tiny_patch14_224", "img_size": 56, "depth": 1}, 56, None),
        ("timm", {"model_name": "davit_tiny"}, 64, None),
    ],
)
def test_a_network_made_ready_gives_its_logits(
    backbone: str, arguments: dict[str, Any], side: int, packed: type | None
) -> None:
    torch.manual_seed(0)
    network = Classifier(backbone, arguments, HeadSpec(8), to_serve=True).eval().requires_grad_(False)
    network.logit.weight *= 1000
    x = torch.randn(4, 3, side, side)
    plain = network(x)[0]
    assert make_ready(network, CPU, torch.float32) is None
    assert packed is None or any(isinstance(module, packed) for module in network.modules())
    assert plain.std() > 0.02
    torch.testing.assert_close(network(x)[0], plain, rtol=1e-4, atol=1e-3)
