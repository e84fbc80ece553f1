"""The table of backbones: each entry builds, at full size on the meta device, with the published size."""

import subprocess
import sys

import pytest
import torch

from amf.model import backbones
from amf.model.backbones import BACKBONES, VitBackbone
from amf.model.classifier import Classifier, HeadSpec

SMALL_VIT = {"img_size": 28, "depth": 2, "embed_dim": 32, "num_heads": 2}


# Parameters in millions and embedding sizes as the publishers state them (DESIGN.md, model cards), and
# whether a network of our own serves it.
@pytest.mark.parametrize(
    ("name", "parameters", "embedding", "is_ours"),
    [
        ("h-optimus-0", 1134.8, 1536, True),
        ("h-optimus-1", 1134.8, 1536, True),
        ("virchow2", 631.2, 2560, True),
        ("uni2-h", 681.4, 1536, True),
        ("dinov3-h-plus", 840.5, 1280, False),
        ("efficientnetv2-s", 20.2, 1280, False),
    ],
)
def test_full_size_backbones_have_their_published_size(
    name: str, parameters: float, embedding: int, is_ours: bool
) -> None:
    with torch.device("meta"):
        model, served = backbones.build(name, {}), backbones.build(name, {}, to_serve=True)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, abs=0.05)
    assert model.embedding_size == served.embedding_size == embedding
    assert isinstance(served, VitBackbone) == is_ours
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (model, served)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", sorted(BACKBONES.keys() - {"timm"}))
def test_every_entry_states_where_its_weights_are_or_is_ours(name: str) -> None:
    entry = BACKBONES[name]
    assert (entry.hub is None and entry.package is None) == (entry.licence == "ours")


def test_cls_pooling_takes_the_class_token_and_virchow2_appends_the_mean_of_patch_tokens() -> None:
    torch.manual_seed(0)
    model = backbones.build("virchow2", SMALL_VIT).eval()
    x = torch.randn(2, 3, 28, 28)
    tokens = model.model.forward_features(x)  # (2, 1 + 4 + 4, 32)
    assert tokens.shape == (2, 9, 32)
    expected = torch.cat([tokens[:, 0], tokens[:, 5:].mean(1)], 1)
    torch.testing.assert_close(model(x), expected)
    model.pool = "cls"
    torch.testing.assert_close(model(x), tokens[:, 0])


def test_an_unknown_backbone_and_an_unknown_argument_are_named() -> None:
    with pytest.raises(ValueError, match="'resnet' is unknown"):
        backbones.build("resnet", {})
    with pytest.raises(ValueError, match="depth"):
        backbones.build("compact", {"depth": 3})
    with pytest.raises(ValueError, match="pool is 'max'"):
        backbones.build("virchow2", {**SMALL_VIT, "pool": "max"})


def test_classifier_gives_a_logit_and_the_embedding_before_it() -> None:
    model = Classifier("compact", {"widths": [8, 16], "blocks": [1, 1]}, HeadSpec(hidden=5)).eval()
    logit, embedding = model(torch.randn(3, 3, 64, 64))
    assert logit.shape == (3,)
    assert embedding.shape == (3, 5)
    torch.testing.assert_close(model.logit(embedding).squeeze(1), logit)


def test_a_linear_head_embeds_by_the_backbone() -> None:
    model = Classifier("compact", {"widths": [8, 16], "blocks": [1, 1]}, HeadSpec(hidden=0)).eval()
    x = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(model(x)[1], model.backbone(x))


def test_the_compact_path_imports_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv=['x','--help']\n"
        "import amf.inference.job, amf.model.backbones\n"
        "amf.model.backbones.build('compact', {})\n"
        "amf.model.backbones.build('efficientnet-lite0', {})\n"
        "heavy = {'timm','torchvision','peft','pandas','sklearn','matplotlib','SimpleITK','accelerate',"
        "'transformers','amf.training','amf.evaluation','scipy','huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
