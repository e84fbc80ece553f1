"""int8 as a type of storage: what is written, what it does to answers, what is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from amf.bulk.read import read_pages
from amf.cpu import linear
from amf.errors import DataError, RecipeError
from amf.experiments import int8
from amf.inference.predict import Predictor, score, sigmoid
from amf.model import bundle
from amf.model.classifier import Classifier, HeadSpec
from amf.model.preprocess import ImageSpec
from amf.model.spec import BundleSpec, MemberSpec
from amf.training.recipe import override
from test.support.bundles import change, refused, resave, weights_of
from test.support.small import compact_recipe

ARGUMENTS = {"img_size": 56, "depth": 2, "embed_dim": 192, "num_heads": 3, "init_values": 0.5}
HEAD, IMAGE = HeadSpec(16), ImageSpec(128, 56, "bicubic", (0.7, 0.58, 0.7), (0.21, 0.23, 0.18))
MEMBER = MemberSpec("h-optimus-0", ARGUMENTS, HEAD, IMAGE, 1, "any.safetensors", "", "int8")

needs_kernel = pytest.mark.skipif(
    linear.reason_against_int8() is not None, reason=str(linear.reason_against_int8())
)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """A ViT in float32 of which some channels are 60 times the others before each linear layer."""
    torch.manual_seed(3)
    network = Classifier("h-optimus-0", ARGUMENTS, HEAD, to_serve=True).requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1:
            tensor.normal_(std=tensor[0].numel() ** -0.5 if "weight" in name else 0.5)
    network.backbone.model.patch_embed["proj"].weight.mul_(
        4
    )  # so that images differ as trained ones see them
    for block in network.backbone.model.blocks:
        for norm, reader in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
            norm.weight[:3] *= 60
            norm.bias[:3] *= 60
            reader.weight[:, :3] /= 60
        block.mlp.fc1.weight[-3:] *= 60
        block.mlp.fc2.weight[:, -3:] /= 60
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture(scope="module")
def noise() -> NDArray[np.uint8]:
    """Pages of noise of different colours, so that answers differ."""
    generator = np.random.default_rng(0)
    colours = generator.integers(40, 216, (24, 1, 1, 3))
    return (colours + generator.integers(-40, 40, (24, 128, 128, 3))).astype(np.uint8)


def spec_of(member: MemberSpec, temperature: float) -> BundleSpec:
    return BundleSpec("small", temperature, 0.5, "nothing", (member,))


def logits_of(tensors: dict[str, Tensor], pages: NDArray[np.uint8]) -> NDArray[np.float64]:
    network = int8.served(MEMBER, tensors)
    return score(network, [torch.from_numpy(pages)], IMAGE, 1, torch.float32).numpy()


@pytest.fixture(scope="module")
def rounded(tensors: dict[str, Tensor], noise: NDArray[np.uint8]) -> dict[str, Tensor]:
    return int8.int8_member(MEMBER, tensors, noise)


@pytest.fixture
def written(rounded: dict[str, Tensor], tmp_path: Path) -> Path:
    bundle.write(tmp_path / "int8", spec_of(MEMBER, temperature=1.0), [rounded])
    return tmp_path / "int8"


def test_weights_are_bytes_with_a_scale_an_output(written: Path) -> None:
    stored = load_file(weights_of(written))
    layers = [name for name, tensor in stored.items() if tensor.dtype == torch.int8]
    assert len(layers) == 4 * 2
    assert all(name.startswith("backbone.model.blocks.") for name in layers)
    for name in layers:
        scale = stored[f"{name}_scale"]
        assert (scale.dtype, scale.shape) == (torch.float32, (len(stored[name]),))
        assert stored[name].abs().amax(1).eq(127).all()  # each output uses its whole range
    rest = {t.dtype for name, t in stored.items() if name not in layers and not name.endswith("_scale")}
    assert rest == {torch.bfloat16}
    assert bundle.read_spec(written).members[0].dtype == "int8"


def test_smoothing_changes_the_network_only_in_its_activations(
    tensors: dict[str, Tensor], noise: NDArray[np.uint8]
) -> None:
    network = int8.served(MEMBER, tensors)
    before = int8._largest_activations(network, MEMBER, noise)
    for block in network.backbone.model.blocks:
        int8.smooth(block, before)
    smoothed = dict(network.state_dict())
    np.testing.assert_allclose(logits_of(smoothed, noise), logits_of(tensors, noise), atol=1e-4)
    after = int8._largest_activations(network, MEMBER, noise)

    def unevenness(largest: dict[torch.nn.Module, Tensor]) -> list[float]:
        return [float(values.max() / values.median()) for values in largest.values()]

    assert max(unevenness(before)) > 40
    assert max(unevenness(after)) < 15


@needs_kernel
def test_real_patches_keep_their_answers_and_the_report_says_so(
    tensors: dict[str, Tensor], patches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((patches / "AMi-Br").rglob("*.png"))[::24]
    pages = np.concatenate([read_pages(path) for path in paths])
    logits = logits_of(tensors, pages)
    spec = spec_of(MEMBER, temperature=2 * float(logits.std()))
    # A random network of a small width averages out less of the rounding than one of full size.
    monkeypatch.setattr(int8, "MIN_RANK_CORRELATION", 0.995)
    (stored, *none), report = int8.as_int8(spec, [tensors], pages)
    assert none == []
    assert report["patches"] == len(pages) > 100
    assert report["answers to"] - report["answers from"] > 0.3
    assert 0 < report["largest move"] <= 0.02
    assert report["rank correlation"] >= 0.995
    served = Predictor(bundle.Bundle(spec, (int8.served(MEMBER, stored),)), "cpu").predict(pages)
    expected = [sigmoid(z / spec.temperature) for z in logits.tolist()]
    moved = np.abs(np.array([p.confidence for p in served]) - expected)
    assert report["largest move"] == pytest.approx(moved.max(), abs=1e-3)


@needs_kernel
def test_answers_that_move_too_far_are_not_written(
    tensors: dict[str, Tensor], noise: NDArray[np.uint8]
) -> None:
    with pytest.raises(DataError, match=r"moves P\(atypical\) by up to 0\.\d+ .*: use storage bfloat16"):
        int8.as_int8(spec_of(MEMBER, temperature=1e-4), [tensors], noise)


def test_without_the_kernel_it_is_computed_in_bfloat16_and_a_line_says_so(
    written: Path,
    noise: NDArray[np.uint8],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = bundle.load(written)
    expected = score(loaded.members[0].float(), [torch.from_numpy(noise)], IMAGE, 1, torch.float32).numpy()
    monkeypatch.setattr(linear, "PackedInt8Linear", missing)
    given = Predictor(bundle.load(written), "cpu").logits(noise)
    np.testing.assert_allclose(given, expected, atol=0.1)
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("\n") == 1
    assert "int8 weights are computed in torch." in said.out


def missing(layer: object) -> None:
    raise AttributeError("'_OpNamespace' 'onednn' object has no attribute 'qlinear_prepack'")


NAME = "backbone.model.blocks.1.mlp.fc2.weight"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop(f"{NAME}_scale"), f"lacks {NAME}_scale"),
        (lambda t: t.update({f"{NAME}_scale": t[f"{NAME}_scale"].bfloat16()}), "expected torch.float32"),
        (lambda t: t.update({NAME: t[NAME].bfloat16()}), "expected torch.int8"),
    ],
)
def test_weights_that_make_no_sense_are_refused(
    written: Path, edit: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    resave(written, edit)
    assert message in refused(written)


def test_a_bundle_that_calls_other_weights_int8_is_refused(make_bundle: Callable[..., Path]) -> None:
    folder = make_bundle(dtype="bfloat16")
    change(folder, lambda content: content["members"][0].update(dtype="int8"))
    assert "int8" in refused(folder)


def test_only_networks_that_have_an_int8_form_take_it(
    tensors: dict[str, Tensor], noise: NDArray[np.uint8]
) -> None:
    with pytest.raises(
        RecipeError, match="storage is int8 and the backbone 'compact', expected one of h-opt"
    ):
        override(compact_recipe(), {"model.storage": "int8"})
    spec = dataclasses.replace(
        MEMBER, backbone="timm", arguments={"model_name": "vit_tiny_patch16_224", "depth": 1}
    )
    torch.manual_seed(0)
    other = Classifier(spec.backbone, spec.arguments, spec.head).state_dict()
    with pytest.raises(DataError, match="storage is int8 and the backbone 'timm'"):
        int8.int8_member(spec, other, noise)
