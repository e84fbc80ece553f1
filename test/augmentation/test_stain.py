"""Stain jitter against densities worked out per pixel in float64."""

import numpy as np
import pytest
import torch

from amf.augmentation.photometry import EOSIN, HAEMATOXYLIN, jitter_density, jitter_stain, stain_basis
from amf.augmentation.randomness import generator_at


def images_within(low: float, high: float, batch: int = 6) -> torch.Tensor:
    return low + (high - low) * torch.rand((batch, 3, 16, 16), generator=generator_at(0))


def density(images: torch.Tensor) -> np.ndarray:
    return -np.log(images.double().numpy())


def test_the_basis_holds_both_stains_and_a_perpendicular():
    basis = stain_basis().numpy()
    np.testing.assert_allclose(np.linalg.norm(basis, axis=0), 1, rtol=1e-6)
    for column, stain in ((0, HAEMATOXYLIN), (1, EOSIN)):
        np.testing.assert_allclose(basis[:, column], np.array(stain) / np.linalg.norm(stain), rtol=1e-6)
    np.testing.assert_allclose(basis[:, 2] @ basis[:, :2], 0, atol=1e-6)


@pytest.mark.parametrize(("jitter", "basis"), [(jitter_stain, stain_basis()), (jitter_density, torch.eye(3))])
def test_amounts_of_each_component_become_gain_times_amount_plus_offset(jitter, basis):
    images = images_within(0.1, 0.9)
    torch.testing.assert_close(jitter(images, generator_at(1), gain=0.0, offset=0.0), images)
    changed = jitter(images, generator_at(2), gain=0.3, offset=0.05)
    to_amounts = np.linalg.inv(basis.double().numpy())
    before = np.einsum("ij,bjhw->bihw", to_amounts, density(images)).reshape(6, 3, -1)
    after = np.einsum("ij,bjhw->bihw", to_amounts, density(changed)).reshape(6, 3, -1)
    lines = {}
    for patch in range(6):
        for component in range(3):
            slope, intercept = np.polyfit(before[patch, component], after[patch, component], deg=1)
            fitted = slope * before[patch, component] + intercept
            np.testing.assert_allclose(after[patch, component], fitted, atol=1e-4)  # float32 logarithms
            assert 0.7 <= slope <= 1.3
            assert abs(intercept) <= 0.05 + 1e-4
            lines[patch, component] = slope
    assert np.std(list(lines.values())) > 0.05


def test_black_pixels_stay_finite_and_dark():
    black = torch.zeros(4, 3, 8, 8)
    for jitter in (jitter_stain, jitter_density):
        changed = jitter(black, generator_at(3), gain=0.25, offset=0.05)
        assert torch.isfinite(changed).all()
        assert changed.max() < 0.1
