"""Every set, as a set: determinism, type, range, independence of patches, and what each must not touch."""

import pytest
import torch

from amf.augmentation.geometry import Warp
from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import AUGMENTATIONS, AugmentationSet, augment, register
from amf.model.preprocess import ImageSpec, normalise, resize, to_input

PAPER = {
    "none", "flip_rotate", "color", "blur_noise", "distortion", "cutout", "rass", "basic", "medium", "heavy",
}  # fmt: skip


def patches(batch: int = 6, side: int = 64) -> torch.Tensor:
    """Pink ground with a dark blot off the centre and fine grain: uint8, like a stained patch."""
    generator = generator_at(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    blot = (((x - side * 0.45) / 9) ** 2 + ((y - side * 0.55) / 5) ** 2 < 1).float()
    ground, chromatin = torch.tensor([220.0, 160, 200]), torch.tensor([70.0, 40, 110])
    image = ground[:, None, None] * (1 - blot) + chromatin[:, None, None] * blot
    grain = torch.randint(-12, 13, (batch, 3, side, side), generator=generator)
    return (image + grain).clamp(0, 255).to(torch.uint8)


def test_all_the_papers_sets_are_there_once():
    assert set(AUGMENTATIONS) > PAPER
    with pytest.raises(ValueError, match="'medium' is already registered"):
        register("medium", AugmentationSet("another"))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_seed_decides_and_nothing_else(name):
    """Not the global generator, nor the type, memory layout or autocast under which patches come."""
    chosen, source, before = AUGMENTATIONS[name], patches(), torch.get_rng_state()
    first, second, other = (augment(chosen, source, generator_at(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert torch.equal(first, other) == (name == "none")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(source, patches()), "the source was written to"
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(chosen, source, generator_at(1)), first)
    packed = source.contiguous(memory_format=torch.channels_last)
    for given in (source.float() / 255, packed):
        torch.testing.assert_close(augment(chosen, given, generator_at(1)), first, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("side", [64, 40])
def test_shape_type_and_range(name, side):
    images = augment(AUGMENTATIONS[name], patches(), generator_at(1), side)
    assert images.shape == (6, 3, side, side)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_set_but_none_changes_patches_each_in_its_own_way(name):
    # sixteen copies of one patch
    source = patches(1).expand(16, -1, -1, -1)
    images = augment(AUGMENTATIONS[name], source, generator_at(1))
    distinct = {image.numpy().tobytes() for image in images}
    changed = [not torch.equal(i, s) for i, s in zip(images, source / 255, strict=True)]
    if name == "none":
        assert not any(changed)
    else:
        assert sum(changed) >= 5  # the half-time sets: 16 coins fall on "no" 12 times or more 4 times in 100
        assert len(distinct) >= 5


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_patch_stays_recognisable(name):
    """The blot remains the darker part: what the label speaks of is still there."""
    source = patches(32)
    images = augment(AUGMENTATIONS[name], source, generator_at(3))
    dark = images.mean(dim=1).flatten(1).quantile(0.01, dim=1)
    typical = images.mean(dim=1).flatten(1).median(dim=1).values
    visible = (typical - dark > 0.1).float().mean()
    assert visible >= (0.8 if name in ("heavy", "cutout") else 1.0)
    assert 0.2 < images.mean() < 0.95


@pytest.mark.parametrize(
    ("field_of_view_px", "input_px", "interpolation"),
    [(80, 64, "bilinear"), (64, 96, "bilinear"), (112, 96, "bicubic")],
)
def test_training_and_inference_make_the_same_input_of_a_patch(field_of_view_px, input_px, interpolation):
    source = torch.randint(0, 256, (4, 128, 128, 3), generator=generator_at(6), dtype=torch.uint8)
    spec = ImageSpec(field_of_view_px, input_px, interpolation, (0.72, 0.55, 0.70), (0.18, 0.21, 0.16))
    expected = to_input(source, spec)
    # a resampling that moves nothing is off by some 1e-5 px, in noise that goes from black to white in one
    still = AugmentationSet("moves nothing", warp=Warp())
    for augmentation, tolerance in ((AUGMENTATIONS["none"], 0), (still, 1e-3)):
        images = augment(augmentation, source.permute(0, 3, 1, 2), generator_at(7), field_of_view_px)
        trained_on = normalise(resize(images, spec), spec)
        torch.testing.assert_close(trained_on, expected, rtol=0, atol=tolerance)
