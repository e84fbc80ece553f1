"""Movements against index arithmetic and against positions worked out by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from amf.augmentation.geometry import Warp, random_symmetry, warped_crop
from amf.augmentation.randomness import generator_at


def noise(batch: int = 4, side: int = 128) -> torch.Tensor:
    return torch.rand((batch, 3, side, side), generator=generator_at(0))


def ramps(batch: int, side: int = 128) -> torch.Tensor:
    """Channels x, y (px from the centre) and their sum: bilinear resampling reproduces planes exactly."""
    axis = torch.arange(side) + 0.5 - side / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y, x + y]).expand(batch, -1, -1, -1)


def eight_symmetries(image: np.ndarray) -> list[np.ndarray]:
    turned = [np.rot90(image, k, axes=(1, 2)) for k in range(4)]
    return turned + [t[:, :, ::-1] for t in turned]


def which_symmetry(image: torch.Tensor, source: torch.Tensor, tolerance: float) -> int:
    distances = [np.abs(image.numpy() - s).max() for s in eight_symmetries(source.numpy())]
    assert min(distances) <= tolerance
    return int(np.argmin(distances))


def test_random_symmetry_moves_pixels_exactly_and_reaches_all_eight_equally():
    source = noise(1, 16).expand(4000, -1, -1, -1)
    moved = random_symmetry(source, generator_at(1))
    found = [which_symmetry(image, source[0], tolerance=0.0) for image in moved]
    counts = np.bincount(found, minlength=8)
    assert (np.abs(counts - 500) < 4 * np.sqrt(500)).all()  # 4 standard deviations


def test_symmetries_inside_the_resampling_are_the_exact_ones():
    source = noise(64, 32)
    moved = warped_crop(source, 32, Warp(), symmetries=True, generator=generator_at(2))
    # positions are off by some 1e-6 px of 32 in float32
    found = [which_symmetry(image, own, tolerance=1e-4) for image, own in zip(moved, source, strict=True)]
    assert set(found) == set(range(8))


def test_a_shrunk_crop_is_as_smooth_as_an_antialiased_resize():
    """Noise keeps the variance that a resize by the drawn factor leaves it; unsmoothed it would keep 4/9."""
    source = torch.cat([ramps(300)[:, :1], torch.randn((300, 1, 128, 128), generator=generator_at(7))], dim=1)
    crop = warped_crop(source, 48, Warp(zoom=2), symmetries=False, generator=generator_at(8))
    steps = (crop[:, 0, :, -1] - crop[:, 0, :, 0]).mean(dim=1) / 47  # px of the source for each of the crop
    noise_left = crop[:, 1].var(dim=(1, 2))
    for low, high in ((1.2, 1.4), (1.5, 1.7), (1.8, 2.0)):
        chosen = (steps > low) & (steps < high)
        side = round(128 / ((low + high) / 2))
        resized = F.interpolate(source[:, 1:], (side, side), mode="bilinear", antialias=True)
        assert chosen.sum() > 10
        assert noise_left[chosen].mean() == pytest.approx(resized.var().item(), rel=0.2)
    # a magnified crop is not smoothed: bilinear sampling keeps 4/9 on average over the positions
    assert noise_left[steps < 1].mean() == pytest.approx(4 / 9, rel=0.1)


def matrices_and_shifts(warp: Warp, batch: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Read the drawn affine maps off warped ramps: the crop's values are the source positions themselves."""
    crop = warped_crop(ramps(batch), 32, warp, symmetries=False, generator=generator_at(3)).numpy()
    x, y = crop[:, :2, :, 31] - crop[:, :2, :, 0], crop[:, :2, 31, :] - crop[:, :2, 0, :]
    matrices = np.stack([x.mean(axis=2), y.mean(axis=2)], axis=2) / 31
    return matrices, crop[:, :2].mean(axis=(2, 3))


def test_rotation_keeps_lengths_and_covers_its_range():
    matrices, shifts = matrices_and_shifts(Warp(rotation_deg=30))
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(2), (200, 1, 1)), atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-4)
    degrees = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
    assert -30 <= degrees.min() < -27
    assert 27 < degrees.max() <= 30
    np.testing.assert_allclose(shifts, 0, atol=1e-3)


def test_zoom_scales_both_ways_alike():
    matrices, _ = matrices_and_shifts(Warp(zoom=1.25))
    factors = 1 / matrices[:, 0, 0]
    np.testing.assert_allclose(matrices, np.eye(2) / factors[:, None, None], atol=1e-4)
    assert 0.8 <= factors.min() < 0.83
    assert 1.21 < factors.max() <= 1.25
    assert abs(np.log(factors).mean()) < 4 * np.log(1.25) / np.sqrt(3 * 200)  # 4 standard errors


def test_shift_moves_within_its_range_and_nothing_else():
    matrices, shifts = matrices_and_shifts(Warp(shift_px=8))
    np.testing.assert_allclose(matrices, np.tile(np.eye(2), (200, 1, 1)), atol=1e-4)
    assert 7.5 < np.abs(shifts).max() <= 8
    assert np.abs(shifts.mean(axis=0)).max() < 4 * 8 / np.sqrt(3 * 200)  # 4 standard errors


def test_shear_keeps_the_area():
    matrices, _ = matrices_and_shifts(Warp(shear_deg=10))
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-4)
    slant = matrices[:, 0, 1]
    assert 0.16 < np.abs(slant).max() <= np.tan(np.deg2rad(10)) + 1e-4


@pytest.mark.parametrize("side", [128, 80])
def test_elastic_displacement_is_smooth_and_of_the_stated_size(side):
    warp = Warp(elastic_px=2.5)
    moved = warped_crop(ramps(100), side, warp, symmetries=False, generator=generator_at(4))[:, :2]
    still = warped_crop(ramps(100), side, Warp(), symmetries=False, generator=generator_at(4))[:, :2]
    inner = slice(side // 8, -side // 8)  # away from the border, where the reflection would mix in
    displacement = (moved - still)[:, :, inner, inner]
    # at the knots the deviation is 2.5 px, between them interpolation averages it down
    assert 1.2 < displacement.std().item() < 2.8
    # px of displacement per px of the source: below 1, or the picture would fold over itself
    slope = displacement.diff(dim=3).abs().max().item()
    assert slope < 0.8


def test_a_turned_crop_reads_the_wide_patch_and_no_border():
    # a frame of 0 around the centre 116 px: 80 px at any angle need 80 · √2 = 113.1 px
    source = torch.zeros(64, 3, 128, 128)
    source[..., 6:122, 6:122] = 1
    crop = warped_crop(source, 80, Warp(rotation_deg=180), symmetries=True, generator=generator_at(5))
    torch.testing.assert_close(crop, torch.ones(64, 3, 80, 80))


def test_what_lies_outside_is_mirrored_not_black():
    source = torch.ones(16, 3, 128, 128)
    crop = warped_crop(source, 128, Warp(180, 1.25, 20), symmetries=True, generator=generator_at(6))
    torch.testing.assert_close(crop, source)


def test_a_zoom_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"zoom is 2\.5, expected 1 to 2"):
        Warp(zoom=2.5)
