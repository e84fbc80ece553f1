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


def test_amplitudes_vary_by_the_deviation_of_their_frequency():
    images = textures(200)
    before = np.fft.rfft2(images.numpy())
    after = np.fft.rfft2(synthesise_amplitudes(images, generator_at(2), 1.5, 2.0, 0.05).numpy())
    ratio = np.abs(after) / np.abs(before)  # (200, 3, 32, 17)
    deviation = amplitude_deviation(32, 32, 1.5, 2.0, 0.05)
    for m, n in ((0, 0), (1, 2), (3, 2)):  # where hardly an amplitude is cut off at nothing
        expected = deviation[m, n].item()
        assert ratio[:, :, m, n].std() == pytest.approx(expected, rel=0.15)
        assert ratio[:, :, m, n].mean() == pytest.approx(1, abs=4 * expected / math.sqrt(600))
    assert ratio[:, :, 12:16, 12:15].std() > 0.5  # fine detail varies most
