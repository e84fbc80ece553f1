"""Colour, blur, noise and cutout: what each changes, and what each leaves alone."""

import numpy as np
import torch

from amf.augmentation.photometry import add_noise, blur, cut_out, jitter_color
from amf.augmentation.randomness import generator_at, normal


def noise(batch: int = 8, side: int = 32) -> torch.Tensor:
    return torch.rand((batch, 3, side, side), generator=generator_at(0))


def color(images: torch.Tensor, brightness=0.0, contrast=0.0, saturation=0.0, hue_deg=0.0) -> torch.Tensor:
    return jitter_color(images, generator_at(1), brightness, contrast, saturation, hue_deg)


def test_brightness_is_one_factor_per_patch():
    factors = color(noise(200), brightness=0.2) / noise(200)
    torch.testing.assert_close(factors, factors[:, :1, :1, :1].expand_as(factors), rtol=1e-4, atol=1e-5)
    each = factors[:, 0, 0, 0]
    assert 0.8 <= each.min() < 0.82
    assert 1.18 < each.max() <= 1.2 + 1e-4


def test_contrast_scales_about_the_mean_grey():
    images = noise()
    changed = color(images, contrast=0.3)
    grey = images.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(changed.mean(dim=(1, 2, 3), keepdim=True), grey)
    factors = ((changed - grey) / (images - grey)).flatten(1).median(dim=1).values
    torch.testing.assert_close(
        changed, grey + factors[:, None, None, None] * (images - grey), rtol=1e-4, atol=1e-5
    )
    assert factors.std() > 0.05


def test_saturation_and_hue_leave_grey_patches_and_every_pixels_grey_alone():
    grey = noise()[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(color(grey, saturation=0.5, hue_deg=90), grey)
    images = noise()
    changed = color(images, saturation=0.5, hue_deg=90)
    torch.testing.assert_close(changed.mean(dim=1), images.mean(dim=1))
    assert (changed - images).abs().amax(dim=(1, 2, 3)).min() > 0.01


def test_hue_turns_by_no_more_than_it_says():
    pink = torch.tensor([0.8, 0.5, 0.7]).view(1, 3, 1, 1).expand(300, 3, 2, 2)
    turned = color(pink, hue_deg=10)
    # the angle about the grey axis, worked out in a plane perpendicular to it
    u, v = np.array([2, -1, -1]) / np.sqrt(6), np.array([0, 1, -1]) / np.sqrt(2)
    angle = [np.rad2deg(np.arctan2(c @ v, c @ u)) for c in turned[:, :, 0, 0].numpy()]
    original = np.rad2deg(np.arctan2(pink[0, :, 0, 0].numpy() @ v, pink[0, :, 0, 0].numpy() @ u))
    difference = np.array(angle) - original
    assert 9 < np.abs(difference).max() <= 10 + 1e-3


def test_blur_of_a_point_is_a_gaussian_of_the_drawn_width():
    images = torch.zeros(100, 3, 33, 33)
    images[:, :, 16, 16] = 1
    spread = blur(images, generator_at(2), sigma_px=(0.6, 1.5), probability=1.0)
    torch.testing.assert_close(spread.sum(dim=(2, 3)), torch.ones(100, 3))
    offsets = torch.arange(33) - 16.0
    for profile in (spread.sum(dim=2), spread.sum(dim=3)):
        deviation = (profile * offsets**2).sum(dim=2).sqrt()
        assert 0.58 < deviation.min() < 0.7
        # the kernel ends at three of the widest standard deviations
        assert 1.4 < deviation.max() < 1.51
        torch.testing.assert_close(deviation, deviation[:, :1].expand(-1, 3))


def test_blur_spares_its_share_exactly_and_a_flat_patch_always():
    images = noise(400, 16)
    blurred = blur(images, generator_at(3), sigma_px=(0.5, 1.0), probability=0.3)
    spared = (blurred == images).flatten(1).all(dim=1).float().mean()
    assert abs(spared.item() - 0.7) < 4 * (0.3 * 0.7 / 400) ** 0.5
    flat = torch.full((4, 3, 16, 16), 0.6)
    torch.testing.assert_close(blur(flat, generator_at(3), (0.5, 1.0), 1.0), flat)


def test_noise_has_the_stated_deviation_and_no_bias():
    images = torch.full((300, 3, 32, 32), 0.5)
    added = add_noise(images, generator_at(4), deviation=(0.02, 0.08), probability=1.0) - 0.5
    deviations = added.flatten(1).std(dim=1)
    assert 0.019 < deviations.min() < 0.024
    assert 0.076 < deviations.max() < 0.084
    assert added.mean().abs() < 4 * 0.06 / added.numel() ** 0.5
    spared = add_noise(images, generator_at(4), deviation=(0.02, 0.08), probability=0.0)
    assert torch.equal(spared, images)


def test_cutout_hides_one_whole_square_in_the_mean_colour_and_nothing_else():
    images = noise(200, 40)
    cut = cut_out(images, generator_at(5), side=(0.15, 0.35), probability=1.0)
    sides = set()
    for image, before in zip(cut, images, strict=True):
        hidden = (image != before).any(dim=0)
        rows, columns = hidden.any(dim=1).nonzero(), hidden.any(dim=0).nonzero()
        side = int(rows.max() - rows.min()) + 1
        assert side == int(columns.max() - columns.min()) + 1
        assert hidden.sum() == side * side
        torch.testing.assert_close(image[:, hidden], before.mean(dim=(1, 2))[:, None].expand(-1, side * side))
        sides.add(side)
    assert min(sides) == 6  # 15 % of 40
    assert max(sides) == 14  # 35 %


def test_cutout_reaches_every_place_and_spares_its_share():
    images = noise(1000, 20)
    changed = (cut_out(images, generator_at(6), side=(0.2, 0.3), probability=0.5) != images).any(dim=1)
    assert changed.any(dim=0).all()
    share = changed.flatten(1).any(dim=1).float().mean().item()
    assert abs(share - 0.5) < 4 * (0.25 / 1000) ** 0.5


def test_a_generator_at_one_place_of_a_run_is_its_own_and_repeats():
    def drawn(*position: int) -> torch.Tensor:
        return normal(generator_at(*position), (5,), torch.zeros(1))

    assert torch.equal(drawn(1, 2, 3), drawn(1, 2, 3))
    places = [drawn(1, 2, 3), drawn(1, 3, 2), drawn(2, 2, 3), drawn(1, 2), drawn(1, 2, 4)]
    assert all(not torch.equal(a, b) for i, a in enumerate(places) for b in places[:i])
