"""Temperature and threshold against brute force and closed forms."""

import numpy as np
import pytest
from scipy.special import expit

from amf.experiments.threshold import balanced_accuracy_at, best_cut, fit_temperature, fit_threshold


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_temperature_is_recovered(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, 200_000)
    labels = rng.random(200_000) < expit(true_logits)
    assert fit_temperature(true_logits * temperature, labels) == pytest.approx(temperature, rel=0.02)


def test_balanced_accuracy_equals_a_naive_loop() -> None:
    rng = np.random.default_rng(1)
    amf, nmf = rng.random(30).round(1), rng.random(70).round(1)
    cuts = np.linspace(0, 1, 21)
    for cut, found in zip(cuts, balanced_accuracy_at(cuts, amf, nmf), strict=True):
        sensitivity = sum(p >= cut for p in amf) / 30
        specificity = sum(p < cut for p in nmf) / 70
        assert found == pytest.approx((sensitivity + specificity) / 2)


def test_best_cut_is_the_best_of_all_cuts() -> None:
    rng = np.random.default_rng(2)
    amf, nmf = rng.beta(3, 2, 40), rng.beta(2, 3, 60)
    cut, accuracy = best_cut(amf, nmf)
    assert accuracy == pytest.approx(balanced_accuracy_at(np.linspace(0, 1, 100_001), amf, nmf).max())
    assert balanced_accuracy_at(np.array([cut]), amf, nmf)[0] == accuracy


def test_separable_classes_are_cut_midway() -> None:
    assert best_cut(np.array([0.8, 0.9]), np.array([0.1, 0.4])) == (pytest.approx(0.6), 1.0)


def test_bagged_threshold_finds_the_crossing_of_the_densities() -> None:
    # Logits N(1, 1) for AMF and N(-1, 1) for NMF: balanced accuracy is greatest at logit 0, confidence 0.5,
    # whatever the prevalence.
    rng = np.random.default_rng(3)
    confidences = expit(np.concatenate([rng.normal(1, 1, 2_000), rng.normal(-1, 1, 10_000)]))
    labels = np.arange(12_000) < 2_000
    threshold = fit_threshold(confidences, labels, resamples=100)
    assert threshold.value == pytest.approx(0.5, abs=0.04)
    assert threshold.low < threshold.value < threshold.high
    assert fit_threshold(confidences, labels, resamples=100) == threshold


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 3 figures are AMF"):
        fit_threshold([0.1, 0.2, 0.3], [0, 0, 0])
