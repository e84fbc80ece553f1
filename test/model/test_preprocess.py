"""A patch becomes the network's input: crop, size, scale."""

import dataclasses

import pytest
import torch
from torch.nn import functional

from amf.model.preprocess import ImageSpec, centre_crop, resize, to_input

PLAIN = ImageSpec(128, 128, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_without_crop_and_resize_it_is_the_patch_in_0_to_1() -> None:
    patches = torch.randint(
        0, 256, (2, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(to_input(patches, PLAIN), patches.permute(0, 3, 1, 2) / 255, rtol=0, atol=0)


def test_the_crop_is_the_centre() -> None:
    patches = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    patches[:, 32:96, 32:96] = 255
    assert (to_input(patches, dataclasses.replace(PLAIN, field_of_view_px=64, input_px=64)) == 1).all()
    assert to_input(patches, dataclasses.replace(PLAIN, field_of_view_px=66, input_px=66)).min() == 0


def test_normalisation_is_per_channel() -> None:
    patches = torch.full((1, 128, 128, 3), 255, dtype=torch.uint8)
    spec = dataclasses.replace(PLAIN, mean=(0.5, 0.0, 1.0), std=(0.5, 2.0, 1.0))
    assert to_input(patches, spec)[0, :, 0, 0].tolist() == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("input_px", [32, 64, 224])
def test_resizing_keeps_a_flat_patch_flat_and_a_gradient_centred(interpolation: str, input_px: int) -> None:
    spec = dataclasses.replace(PLAIN, input_px=input_px, interpolation=interpolation)
    flat = torch.full((1, 128, 128, 3), 51, dtype=torch.uint8)
    torch.testing.assert_close(to_input(flat, spec), torch.full((1, 3, input_px, input_px), 0.2))
    ramp = torch.arange(128, dtype=torch.uint8).view(1, 1, 128, 1).expand(1, 128, 128, 3).contiguous()
    x = to_input(ramp, spec)
    assert x.shape == (1, 3, input_px, input_px)
    assert 0 <= x.min() <= x.max() <= 1
    assert x.mean().item() == pytest.approx(63.5 / 255, abs=1e-4)


@pytest.mark.parametrize(("interpolation", "input_px"), [("bilinear", 64), ("bicubic", 96), ("bicubic", 224)])
def test_resizing_equals_torchs_and_lets_gradients_through(interpolation: str, input_px: int) -> None:
    spec = dataclasses.replace(PLAIN, input_px=input_px, interpolation=interpolation)
    x = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        resized = resize(x, spec)
    torchs = functional.interpolate(x, (input_px, input_px), mode=interpolation, antialias=True)
    torch.testing.assert_close(resized, torchs.clamp(0, 1), atol=1e-6, rtol=0)
    learnt = x.clone().requires_grad_()
    resize(learnt, spec).sum().backward()
    assert learnt.grad is not None
    assert learnt.grad.abs().min() > 0


@pytest.mark.parametrize(
    "change",
    [
        {"field_of_view_px": 0},
        {"field_of_view_px": 129},
        {"input_px": 0},
        {"interpolation": "nearest"},
        {"std": (0.0, 1, 1)},
    ],
)
def test_an_impossible_specification_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(PLAIN, **change)  # type: ignore[arg-type]


def test_centre_crop_takes_the_middle() -> None:
    images = torch.arange(128 * 128, dtype=torch.int32).view(1, 128, 128)
    assert torch.equal(centre_crop(images, 80), images[..., 24:104, 24:104])
    with pytest.raises(ValueError, match="field of view of 129 px does not fit into images of 128 x 128 px"):
        centre_crop(images, 129)
