"""A bundle rebuilds its model from itself alone, or is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from amf.model import bundle, digest
from amf.model.classifier import Classifier, HeadSpec
from amf.model.digest import FILE_NAME
from test.support.bundles import PAGES, change, refused, resave, scored, weights_of
from test.support.fixtures import Make

SMALL = {"depth": 2, "embed_dim": 32, "num_heads": 2}
VIT = {"img_size": 28, **SMALL}
DINOV3 = {"model_name": "vit_huge_plus_patch16_dinov3", "img_size": 32, **SMALL}
SWIN = {"model_name": "swin_tiny_patch4_window7_224", "img_size": 64, "depths": [1, 1, 1, 1], "embed_dim": 24}
SWIN |= {"num_heads": [1, 2, 2, 2], "window_size": 4}


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [
        ("compact", {"widths": [8, 16], "blocks": [1, 1]}),
        ("h-optimus-0", VIT),
        ("virchow2", VIT),
        ("dinov3-h-plus", DINOV3),
        ("timm", SWIN),  # whose computed buffers lie beside parameters, in one module
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_written_is_what_is_loaded(
    make_bundle: Make, backbone: str, arguments: dict[str, Any], dtype: str
) -> None:
    folder = make_bundle(backbone=backbone, arguments=arguments, dtype=dtype, members=2)
    loaded = bundle.load(folder)
    assert len(loaded.members) == 2
    for spec, model in zip(loaded.spec.members, loaded.members, strict=True):
        assert not model.training
        stored = load_file(folder / spec.weights)
        state = model.state_dict()
        assert stored.keys() == state.keys()
        assert all(torch.equal(stored[name], state[name]) for name in stored)
        assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])


def test_a_bundle_from_before_the_bias_has_none(make_bundle: Make) -> None:
    folder = make_bundle(bias=-0.75, temperature=2.0)
    assert bundle.load(folder).spec.bias == -0.75
    change(folder, lambda content: content.pop("bias"))
    spec = bundle.load(folder).spec
    assert (spec.bias, spec.temperature) == (0.0, 2.0)


def test_computed_buffers_equal_those_of_an_ordinary_construction(make_bundle: Make) -> None:
    (model,) = bundle.load(make_bundle(backbone="dinov3-h-plus", arguments=DINOV3)).members
    ordinary = Classifier("dinov3-h-plus", DINOV3, HeadSpec(hidden=8))
    ordinary.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), ordinary.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(threshold=1.0), "threshold is 1.0"),
        (lambda c: c.update(temperature=-1.0), "temperature is -1.0"),
        (lambda c: c.update(temperature="1"), "is not a bundle's description"),
        (lambda c: c.update(bias=float("inf")), "bias is inf"),
        (lambda c: c.update(format_version=2), "format version 2, expected 1"),
        (lambda c: c.update(classes=["atypical", "normal"]), "has classes"),
        (lambda c: c.update(surprise=1), "unexpected keyword argument 'surprise'"),
        (lambda c: c.pop("members"), "lacks 'members'"),
        (lambda c: c.update(members=[]), "members is empty"),
        (lambda c: c["members"][0].pop("head"), "missing 1 required positional argument: 'head'"),
        (lambda c: c["members"][0].update(backbone="resnet"), "backbone 'resnet' is unknown"),
        (lambda c: c["members"][0].update(views=3), "views is 3"),
        (lambda c: c["members"][0].update(dtype="int4"), "dtype is 'int4'"),
        (lambda c: c["members"][0].update(weights="../x.safetensors"), "expected a plain"),
        (lambda c: c["members"][0]["image"].update(field_of_view_px=500), "field_of_view_px is 500"),
        (lambda c: c["members"][0]["image"].update(std=[0.5, 0.5, 0]), "std is (0.5, 0.5, 0)"),
        (lambda c: c["members"][0]["image"].update(input_px=1), "cannot score an image of 1 x 1 px"),
        (lambda c: c["members"][0]["head"].update(hidden=16), "hidden.0.bias has shape (8,), expected (16,)"),
        (lambda c: c["members"][0]["head"].update(hidden=0), "which the network lacks"),
        (lambda c: c["members"][0]["arguments"].update(blocks=[2, 2]), "lacks backbone"),
        (lambda c: c["members"][0]["arguments"].update(depth=2), "cannot be built"),
    ],
)
def test_an_impossible_description_is_refused_by_name(
    make_bundle: Make, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = make_bundle()
    change(folder, edit)
    assert message in refused(folder)


def test_numbers_that_json_writes_as_integers_are_understood(make_bundle: Make) -> None:
    folder = make_bundle()

    def edit(content: dict[str, Any]) -> None:
        content["temperature"] = 1
        content["members"][0]["image"].update(mean=[0, 0, 0], std=[1, 1, 1])

    change(folder, edit)
    assert len(scored(folder)) == len(PAGES)


def test_a_hand_edited_threshold_is_refused(make_bundle: Make) -> None:
    folder = make_bundle()
    change(folder, lambda c: c.update(threshold=0.4), resign=False)
    sentence = refused(folder)
    assert "was changed after it was written" in sentence
    assert "`amf calibrate BUNDLE --threshold X` sets a threshold" in sentence


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_description_that_is_not_an_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert FILE_NAME in refused(tmp_path)


@pytest.mark.parametrize("of", ["description", "weights"])
@pytest.mark.parametrize("kind", ["absent", "empty", "a folder"])
def test_what_is_no_file_of_a_bundle_is_refused(make_bundle: Make, kind: str, of: str) -> None:
    folder = make_bundle()
    path = folder / FILE_NAME if of == "description" else weights_of(folder)
    path.unlink()
    if kind != "absent":
        path.mkdir() if kind == "a folder" else path.touch()
    digest.begin(folder)  # as the entry point does
    assert str(path) in refused(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t.pop("logit.bias"), "lacks logit.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds extra"),
        (lambda t: t.update({"logit.bias": torch.zeros(2)}), "logit.bias has shape (2,), expected (1,)"),
        (lambda t: t.update({"logit.bias": torch.zeros(1).half()}), "logit.bias is torch.float16"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_tensor(
    make_bundle: Make, edit: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    folder = make_bundle()
    resave(folder, edit)
    assert message in refused(folder)


@pytest.mark.parametrize("of", ["description", "weights"])
def test_any_flipped_bit_is_caught(make_bundle: Make, of: str) -> None:
    folder = make_bundle()
    path = folder / FILE_NAME if of == "description" else weights_of(folder)
    original = path.read_bytes()
    for position in range(0, len(original), max(1, len(original) // 30)):
        damaged = bytearray(original)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        refused(folder)
    path.write_bytes(original)
    bundle.load(folder)
