"""Adapted = base at the start, ≠ base once learnt, = merged, = what PEFT itself reads back.

PEFT is imported inside the tests: `adapt` makes it importable (see amf.model.torchvision_shim).
"""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from amf.errors import RecipeError
from amf.model import backbones
from amf.training.network import adapt, merge_adapters, save_adapter
from amf.training.recipe import Lora
from test.support.small import FAMILIES, TARGETS, VIT

SPEC = Lora(rank=4, alpha=8, dropout=0, targets=TARGETS)


def fresh(backbone: str) -> nn.Module:
    """The same random backbone each time."""
    torch.manual_seed(3)
    return backbones.build(backbone, VIT).eval()


def adapted(backbone: str, perturbed: bool = True) -> nn.Module:
    """An adapted backbone; perturbed, its B matrices are as if something had been learnt."""
    module = fresh(backbone)
    adapt(module, SPEC)
    if perturbed:
        generator = torch.Generator().manual_seed(5)
        for name, parameter in module.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.2, generator=generator)
    return module


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))


def assert_same(actual: Tensor, expected: Tensor) -> None:
    # float32 sums in another order; outputs are of order 1
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("backbone", FAMILIES)
def test_merged_is_adapted_is_reloaded_and_not_base(backbone: str, x: Tensor, tmp_path: Path) -> None:
    base, module = fresh(backbone)(x), adapted(backbone)
    assert torch.equal(adapted(backbone, perturbed=False)(x), base)
    expected = module(x)
    assert (expected - base).abs().max() > 0.1

    save_adapter(module, tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {f.name for f in tmp_path.iterdir()}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
    from peft import PeftModel

    reloaded = fresh(backbone)
    reloaded.model = PeftModel.from_pretrained(reloaded.model, tmp_path)
    assert_same(reloaded.eval()(x), expected)

    merge_adapters(module)
    assert_same(module(x), expected)
    assert module.state_dict().keys() == fresh(backbone).state_dict().keys()


def test_under_autocast_the_adapted_layers_compute_in_its_type(x: Tensor) -> None:
    module = adapted("h-optimus-0").bfloat16()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert "lora" in name
            parameter.data = parameter.data.float()
    with torch.autocast("cpu", torch.bfloat16):
        result = module(x)
    result.float().sum().backward()
    gradients = [p.grad for p in module.parameters() if p.requires_grad]
    assert all(g is not None and g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    expected = adapted("h-optimus-0")(x)
    # bfloat16 has 8 bits; two blocks of it
    torch.testing.assert_close(result.float(), expected, rtol=0.05, atol=0.1)


def test_a_merge_that_fails_leaves_everything_as_it_was(x: Tensor) -> None:
    module = adapted("h-optimus-0")
    broken = module.model.base_model.model.blocks[1].mlp.fc2.lora_B["default"].weight
    broken.data[0, 0] = float("inf")
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.fc2 gives weights that are not finite"):
        merge_adapters(module)
    after = module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    broken.data[0, 0] = 0
    merge_adapters(module)  # and it can still be merged


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("attn.query", "'attn.query' matches no layer of VisionTransformer"),
        ("kv", "'kv' matches no layer"),  # the end of a name, but not of a layer's
        ("mlp", "lora.targets: Target module"),  # a container
    ],
)
def test_targets_that_cannot_be_adapted_are_refused(target: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        adapt(fresh("h-optimus-0"), Lora(targets=("attn.qkv", target)))
    assert message in str(caught.value)
