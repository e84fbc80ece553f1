"""RASS: the amplitude changes by the paper's formula, the phase does not."""

import math

import numpy as np
import pytest
import torch

from amf.augmentation.photometry import amplitude_deviation, synthesise_amplitudes
from amf.augmentation.randomness import generator_at


def textures(batch: int = 4, side: int = 32) -> torch.Tensor:
    return 0.4 + 0.2 * torch.rand((batch, 3, side, side), generator=generator_at(0))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 12), (9, 15)])
def test_the_deviation_is_the_papers_formula(height, width):
    alpha, gamma, beta = 1.5, 2.0, 0.05
    got = amplitude_deviation(height, width, alpha, gamma, beta)
    assert got.shape == (height, width // 2 + 1)
    for row in range(height):
        for n in range(width // 2 + 1):
            m = row if row < height / 2 else row - height  # frequencies above the middle are negative ones
            expected = (2 * alpha * math.sqrt((m**2 + n**2) / (height**2 + width**2))) ** gamma + beta
            assert got[row, n].item() == pytest.approx(expected, rel=1e-5)


def test_the_deviation_runs_from_beta_to_alpha_to_the_gamma_plus_beta():
    deviation = amplitude_deviation(64, 64, 1.5, 2.0, 0.05)
    assert deviation[0, 0].item() == pytest.approx(0.05)
    assert deviation.max().item() == pytest.approx(1.5**2 + 0.05)


@pytest.mark.parametrize("side", [32, 31])
def test_no_strength_is_identity(side):
    images = textures(side=side)
    torch.testing.assert_close(synthesise_amplitudes(images, generator_at(1), 0.0, 2.0, 0.0), images)


@pytest.mark.parametrize("side", [32, 31])
def test_the_phase_stays_and_the_amplitude_does_not(side):
    images = textures(side=side).double().float()
    before = np.fft.fft2(images.double().numpy())
    after = np.fft.fft2(synthesise_amplitudes(images, generator_at(1), 1.5, 2.0, 0.05).double().numpy())
    # where an amplitude was cut off to nothing there is no phase to compare
    present = np.abs(after) > 1e-3 * np.abs(before)
    assert present.mean() > 0.6
    turned = np.angle(after[present] / before[present])
    # float32 transforms of values around 1 with amplitudes around 2: some 1e-6 / 1e-2
    assert np.abs(turned).max() < 1e-2
    ratio = np.abs(after) / np.abs(before)
    assert ratio.std() > 0.3


def test_fine_detail_varies_more_than_coarse():
    images = textures(64)
    before = np.fft.rfft2(images.numpy())
    after = np.fft.rfft2(synthesise_amplitudes(images, generator_at(2), 1.5, 2.0, 0.05).numpy())
    ratio = np.abs(after) / np.abs(before)
    coarse, fine = ratio[:, :, 1:3, 1:3].std(), ratio[:, :, 12:16, 12:15].std()
    assert coarse < 0.15 < 0.5 < fine


def test_the_mean_brightness_stays_near_the_patchs():
    images = textures(200)
    changed = synthesise_amplitudes(images, generator_at(3), 1.5, 2.0, 0.05)
    factors = changed.mean(dim=(2, 3)) / images.mean(dim=(2, 3))
    assert factors.mean().item() == pytest.approx(1, abs=4 * 0.05 / math.sqrt(600))
    assert factors.std().item() == pytest.approx(0.05, rel=0.15)  # beta
    assert (factors - 1).abs().max() < 0.25  # five deviations
