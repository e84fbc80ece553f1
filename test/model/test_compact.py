"""The compact backbone as it is used after training."""

import torch

from amf.model.compact import Compact


def settled() -> Compact:
    """A network whose norms have statistics and weights of their own."""
    torch.manual_seed(0)
    network = Compact((8, 16), blocks=(2, 2))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(8, 3, 64, 64))
    return network.eval()


def test_fused_norms_change_nothing() -> None:
    network, image = settled(), torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        before = network(image)
        network.prepare_for_inference()
        network.prepare_for_inference()  # what is fused stays
        after = network(image)
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules()) == 1  # the last
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
