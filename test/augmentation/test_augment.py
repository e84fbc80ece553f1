"""Every set, as a set: determinism, type, range, independence of patches, and what each must not touch."""

import pytest
import torch

from amf.augmentation.geometry import Warp
from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import AUGMENTATIONS, AugmentationSet, augment, register
from amf.model.preprocess import ImageSpec, normalise, resize, to_input

PAPER = [
    "none",
    "flip_rotate",
    "color",
    "blur_noise",
    "distortion",
    "cutout",
    "rass",
    "basic",
    "medium",
    "heavy",
]


def patches(batch: int = 6, side: int = 64) -> torch.Tensor:
    """Pink ground with a dark blot off the centre and fine grain: uint8, like a stained patch."""
    generator = generator_at(0)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    blot = (((x - side * 0.45) / 9) ** 2 + ((y - side * 0.55) / 5) ** 2 < 1).float()
    ground, chromatin = torch.tensor([220.0, 160, 200]), torch.tensor([70.0, 40, 110])
    image = ground[:, None, None] * (1 - blot) + chromatin[:, None, None] * blot
    grain = torch.randint(-12, 13, (batch, 3, side, side), generator=generator)
    return (image + grain).clamp(0, 255).to(torch.uint8)


def test_all_the_papers_sets_and_ours_are_there():
    assert list(AUGMENTATIONS) == [*PAPER, "stain", "bundled"]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_same_seed_gives_the_same_and_another_does_not(name):
    first, second, other = (augment(AUGMENTATIONS[name], patches(), generator_at(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert torch.equal(first, other) == (name == "none")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_no_global_random_state_is_used(name):
    before = torch.get_rng_state()
    augment(AUGMENTATIONS[name], patches(), generator_at(1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(("field_of_view_px", "side"), [(None, 64), (64, 64), (40, 40)])
def test_shape_type_and_range(name, field_of_view_px, side):
    source = patches()
    images = augment(AUGMENTATIONS[name], source, generator_at(1), field_of_view_px)
    assert images.shape == (6, 3, side, side)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1
    assert torch.equal(source, patches()), "the source was written to"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_uint8_and_float_sources_are_treated_alike(name):
    whole = augment(AUGMENTATIONS[name], patches(), generator_at(1))
    unit = augment(AUGMENTATIONS[name], patches().float() / 255, generator_at(1))
    torch.testing.assert_close(whole, unit, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_memory_layout_does_not_matter(name):
    packed = patches().contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(
        augment(AUGMENTATIONS[name], packed, generator_at(1)),
        augment(AUGMENTATIONS[name], patches(), generator_at(1)),
    )


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_autocast_does_not_reach_in(name):
    with torch.autocast("cpu", torch.bfloat16):
        under = augment(AUGMENTATIONS[name], patches(), generator_at(1))
    assert torch.equal(under, augment(AUGMENTATIONS[name], patches(), generator_at(1)))


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


@pytest.mark.parametrize("name", ["color", "blur_noise", "cutout", "rass", "stain"])
def test_photometric_sets_leave_the_geometry_alone(name):
    source = patches(24)
    images = augment(AUGMENTATIONS[name], source, generator_at(4))
    blot = (source.float().mean(dim=1) < 120).flatten(1).float()
    darkness = 1 - images.mean(dim=1).flatten(1)
    inside = (darkness * blot).sum(dim=1) / blot.sum(dim=1)
    outside = (darkness * (1 - blot)).sum(dim=1) / (1 - blot).sum(dim=1)
    correlation = torch.stack(
        [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(darkness, blot, strict=True)]
    )
    assert (inside > outside).all()
    assert correlation.median() > 0.85


def test_flip_rotate_only_moves_values():
    source = patches()
    images = augment(AUGMENTATIONS["flip_rotate"], source, generator_at(5))
    sorted_before = (source.float() / 255).flatten(2).sort(dim=2).values
    assert torch.equal(images.flatten(2).sort(dim=2).values, sorted_before)


@pytest.mark.parametrize(
    ("field_of_view_px", "input_px", "interpolation"),
    [(80, 64, "bilinear"), (64, 96, "bilinear"), (112, 96, "bicubic"), (128, 224, "bicubic")],
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


def test_a_name_cannot_be_registered_twice():
    with pytest.raises(ValueError, match="'medium' is already registered"):
        register("medium", AugmentationSet("another"))
