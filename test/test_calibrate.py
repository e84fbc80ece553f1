"""Scale, bias and threshold against brute force and closed forms."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from amf.experiments.threshold import balanced_accuracy_at, best_cut, fit_scale_and_bias, fit_threshold


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("bias", [-2.0, 0.0, 0.5])
def test_scale_and_bias_are_recovered(temperature: float, bias: float) -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, 200_000)
    labels = rng.random(200_000) < expit(true_logits)
    found = fit_scale_and_bias((true_logits - bias) * temperature, labels)
    assert found == (pytest.approx(temperature, rel=0.02), pytest.approx(bias, abs=0.03))


def test_scale_and_bias_are_those_of_logistic_regression() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(-0.5, 2, 400)
    labels = rng.random(400) < expit(0.7 * logits - 1)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels)
    temperature, bias = fit_scale_and_bias(logits, labels)
    assert 1 / temperature == pytest.approx(reference.coef_.item(), rel=1e-5)
    assert bias == pytest.approx(reference.intercept_.item(), rel=1e-5)
    # With a bias of its own, the mean confidence is the share of AMF: the overstatement is gone.
    assert expit(logits / temperature + bias).mean() == pytest.approx(labels.mean(), abs=1e-7)


def test_a_scale_never_turns_the_order_around() -> None:
    temperature, bias = fit_scale_and_bias([-1.0, 1.0, -2.0, 2.0], [1, 0, 1, 0])
    assert temperature == pytest.approx(20)
    assert abs(bias) < 1e-6


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
