"""A bundle rebuilds its model from itself alone, or is refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from amf.model import bundle
from amf.model.classifier import Classifier, HeadSpec
from amf.model.digest import FILE_NAME
from test.support.bundles import PAGES, change, refused, resave, scored, weights_of

MakeBundle = Callable[..., Path]
VIT = {
    "model_name": "vit_giant_patch14_reg4_dinov2",
    "pool": "cls",
    "img_size": 28,
    "depth": 2,
    "embed_dim": 32,
    "num_heads": 2,
}
VIRCHOW = {"img_size": 28, "depth": 2, "embed_dim": 32, "num_heads": 2}
DINOV3 = {
    "model_name": "vit_huge_plus_patch16_dinov3",
    "img_size": 32,
    "depth": 2,
    "embed_dim": 32,
    "num_heads": 2,
}


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [
        ("compact", {"widths": [8, 16], "blocks": [1, 1]}),
        ("h-optimus-0", VIT),
        ("virchow2", VIRCHOW),
        ("dinov3-h-plus", DINOV3),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_is_written_is_what_is_loaded(
    make_bundle: MakeBundle, backbone: str, arguments: dict[str, Any], dtype: str
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


def test_a_bundle_from_before_the_bias_has_none(make_bundle: MakeBundle) -> None:
    folder = make_bundle(bias=-0.75, temperature=2.0)
    assert bundle.load(folder).spec.bias == -0.75
    change(folder, lambda content: content.pop("bias"))
    spec = bundle.load(folder).spec
    assert (spec.bias, spec.temperature) == (0.0, 2.0)


def test_computed_buffers_equal_those_of_an_ordinary_construction(make_bundle: MakeBundle) -> None:
    (model,) = bundle.load(make_bundle(backbone="dinov3-h-plus", arguments=DINOV3)).members
    ordinary = Classifier("dinov3-h-plus", DINOV3, HeadSpec(hidden=8))
    ordinary.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), ordinary.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(threshold=1.0), "threshold is 1.0"),
        (lambda c: c.update(threshold=0), "threshold is 0"),
        (lambda c: c.update(temperature=-1.0), "temperature is -1.0"),
        (lambda c: c.update(temperature="1"), "temperature is '1', expected a number"),
        (lambda c: c.update(bias="0"), "bias is '0', expected a number"),
        (lambda c: c.update(bias=float("inf")), "is not valid JSON: Infinity"),
        (lambda c: c.update(bias=10**400), "bias is 1000"),
        (lambda c: c.update(format_version=2), "format version 2, expected 1"),
        (lambda c: c.update(classes=["atypical", "normal"]), "has classes"),
        (lambda c: c.update(surprise=1), "unknown key 'surprise'"),
        (lambda c: c.pop("members"), "lacks 'members'"),
        (lambda c: c.update(members=[]), "members is empty"),
        (lambda c: c["members"][0].pop("head"), "lacks 'head'"),
        (lambda c: c["members"][0].update(backbone="resnet"), "backbone 'resnet' is unknown"),
        (lambda c: c["members"][0].update(views=3), "views is 3"),
        (lambda c: c["members"][0].update(dtype="int4"), "dtype is 'int4'"),
        (lambda c: c["members"][0].update(weights="../x.safetensors"), "expected a plain"),
        (lambda c: c["members"][0]["image"].update(field_of_view_px=500), "field_of_view_px is 500"),
        (lambda c: c.update(provenance=[]), "provenance is [], expected an object"),
        (lambda c: c.update(members={}), "members is {}, expected a list of objects"),
        (lambda c: c.update(members=c["members"] * 65), "members holds 65"),
        (lambda c: c.update(format_version=True), "format version True"),
        (lambda c: c.update(temperature=10**400), "temperature is 1000"),
        (lambda c: c.update(name="\ud800"), "is not valid JSON"),
        (lambda c: c["provenance"].update(loss=float("nan")), "is not valid JSON: NaN"),
        (lambda c: c["members"][0].update(head=None), "head is None, expected an object"),
        (lambda c: c["members"][0].update(weights="\0.safetensors"), "expected a plain"),
        (lambda c: c["members"][0].update(weights="a" * 300 + ".safetensors"), "expected a plain"),
        (lambda c: c["members"][0].update(arguments=[]), "arguments is [], expected an object"),
        (lambda c: c["members"][0]["arguments"].update(blocks=[1, 60000]), "more than 20000 modules"),
        (lambda c: c["members"][0]["arguments"].update(blocks=[1, 10**30]), "expected at most 65536"),
        (lambda c: c["members"][0]["image"].update(input_px=1), "cannot score an image of 1 x 1 px"),
        (lambda c: c["members"][0]["image"].update(input_px=10**6), "input_px is 1000000"),
        (lambda c: c["members"][0]["head"].update(hidden=16), "hidden.0.bias has shape (8,), expected (16,)"),
        (lambda c: c["members"][0]["head"].update(hidden=0), "which the network has not"),
        (lambda c: c["members"][0]["arguments"].update(blocks=[2, 2]), "lacks backbone"),
        (lambda c: c["members"][0]["arguments"].update(blocks=[1]), "expected a number for each of 2 widths"),
        (lambda c: c["members"][0]["arguments"].update(depth=2), "cannot be built"),
    ],
)
def test_an_impossible_description_is_refused_by_name(
    make_bundle: MakeBundle, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder = make_bundle()
    change(folder, edit)
    assert message in refused(folder)


NO_NUMBERS: list[object] = ["0.5", None, True, [], float("nan"), float("inf"), -float("inf"), 10**400]


@pytest.mark.parametrize("value", [*NO_NUMBERS, -0.1, 1.1], ids=lambda value: str(value)[:9])
def test_a_mean_that_is_none_is_refused(make_bundle: MakeBundle, value: object) -> None:
    folder = make_bundle()
    change(folder, lambda c: c["members"][0]["image"].update(mean=[0.5, value, 0.5]))
    refused(folder)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1, 1e-300, 1e6], ids=lambda value: str(value)[:9])
def test_a_std_that_is_none_is_refused(make_bundle: MakeBundle, value: object) -> None:
    folder = make_bundle()
    change(folder, lambda c: c["members"][0]["image"].update(std=[0.5, 0.5, value]))
    refused(folder)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0.5, 0, -1, {}, 10**30], ids=lambda value: str(value)[:9])
@pytest.mark.parametrize("key", ["mean", "std", "input_px", "field_of_view_px"])
def test_an_image_specification_of_another_kind_is_refused(
    make_bundle: MakeBundle, key: str, value: object
) -> None:
    folder = make_bundle()
    change(folder, lambda c: c["members"][0]["image"].update({key: value}))
    refused(folder)


def test_numbers_that_json_writes_as_integers_are_understood(make_bundle: MakeBundle) -> None:
    folder = make_bundle()

    def edit(content: dict[str, Any]) -> None:
        content["temperature"] = 1
        content["members"][0]["image"].update(mean=[0, 0, 0], std=[1, 1, 1])

    change(folder, edit)
    assert len(scored(folder)) == len(PAGES)


@pytest.mark.parametrize(
    ("backbone", "arguments", "side"),
    [
        ("compact", {"widths": [8, 16], "blocks": [1, 1]}, 3),
        ("h-optimus-0", VIT, 27),
        ("h-optimus-0", VIT, 56),
    ],
)
def test_an_image_that_the_network_cannot_take_is_refused(
    make_bundle: MakeBundle, backbone: str, arguments: dict[str, Any], side: int
) -> None:
    folder = make_bundle(backbone=backbone, arguments=arguments)
    change(folder, lambda c: c["members"][0]["image"].update(input_px=side))
    assert f"backbone '{backbone}', cannot score an image of {side} x {side} px" in refused(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("checkpoint_path", "/etc/passwd", "argument 'checkpoint_path' is refused"),
        ("pretrained", True, "argument 'pretrained' is refused"),
        ("pretrained_cfg", "https://x", "argument 'pretrained_cfg' is refused"),
        ("pretrained_cfg_overlay", {"file": "/etc/passwd"}, "argument 'pretrained_cfg_overlay' is refused"),
        ("cache_dir", "/tmp", "argument 'cache_dir' is refused"),
        ("model_name", "hf-hub:timm/resnet18", "model_name is 'hf-hub:timm/resnet18', expected a name"),
        ("model_name", "hf_hub:timm/resnet18", "model_name is 'hf_hub:timm/resnet18', expected a name"),
        ("model_name", "local-dir:/tmp", "model_name is 'local-dir:/tmp', expected a name"),
        ("model_name", ["resnet18"], "model_name is ['resnet18'], expected a name"),
    ],
)
def test_arguments_that_read_or_fetch_are_refused_by_name(
    make_bundle: MakeBundle, key: str, value: object, message: str
) -> None:
    folder = make_bundle(backbone="h-optimus-0", arguments=VIT)
    change(folder, lambda c: c["members"][0]["arguments"].update({key: value}))
    assert message in refused(folder)


def test_a_hand_edited_threshold_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    change(folder, lambda c: c.update(threshold=0.4), resign=False)
    assert "was changed after it was written" in refused(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe"])
def test_a_description_that_is_not_an_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    assert FILE_NAME in refused(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)


def test_absent_weights_are_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    weights = weights_of(folder)
    weights.unlink()
    assert f"{weights} cannot be read" in refused(folder)


def test_a_pickle_in_place_of_the_weights_is_never_opened(make_bundle: MakeBundle, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    folder = make_bundle()
    torch.save(Trap(), weights_of(folder))
    assert weights_of(folder).name in refused(folder)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda t: t["logit.weight"].fill_(float("nan")), "logit.weight holds values that are not finite"),
        (lambda t: t["logit.bias"].fill_(float("inf")), "logit.bias holds values that are not finite"),
        (lambda t: t.pop("logit.bias"), "lacks logit.bias"),
        (lambda t: t.update(extra=torch.zeros(1)), "holds extra"),
        (lambda t: t.update({"logit.bias": torch.zeros(2)}), "logit.bias has shape (2,), expected (1,)"),
        (lambda t: t.update({"logit.bias": torch.zeros(1).half()}), "logit.bias is torch.float16"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_tensor(
    make_bundle: MakeBundle, edit: Callable[[dict[str, torch.Tensor]], None], message: str
) -> None:
    folder = make_bundle()
    resave(folder, edit)
    assert message in refused(folder)


@pytest.mark.parametrize("of", ["description", "weights"])
def test_any_flipped_bit_is_caught(make_bundle: MakeBundle, of: str) -> None:
    folder = make_bundle()
    path = folder / FILE_NAME if of == "description" else weights_of(folder)
    original = path.read_bytes()
    for position in range(0, len(original), max(1, len(original) // 60)):
        damaged = bytearray(original)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        refused(folder)
    path.write_bytes(original)
    bundle.load(folder)
