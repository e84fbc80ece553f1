"""Scale, bias and threshold against brute force and closed forms."""

import numpy as np
import pytest
from pandas import DataFrame
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from amf.evaluation.threshold import best_cuts, fit_threshold
from amf.experiments.calibration import fit_scale_and_bias


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


def figures(confidence: object, label: object) -> DataFrame:
    frame = DataFrame({"confidence": confidence, "label": np.asarray(label).astype(int)})
    return frame.sort_values(["confidence", "label"], ignore_index=True)


def naive_accuracy(frame: DataFrame, weights: np.ndarray, cut: float) -> float:
    """Balanced accuracy of the figures, each as often as its weight says, called atypical from a cut on."""
    repeated = frame.loc[np.repeat(np.arange(len(frame)), weights)]
    return float(balanced_accuracy_score(repeated["label"], repeated["confidence"] >= cut))


def test_best_cuts_are_the_best_of_all_cuts_of_each_resample() -> None:
    rng = np.random.default_rng(2)
    frame = figures(np.concatenate([rng.beta(3, 2, 40), rng.beta(2, 3, 60)]).round(2), np.arange(100) < 40)
    weights = rng.integers(0, 3, (2, 100))
    for row, cut in zip(weights, best_cuts(frame, weights.astype(float)), strict=True):
        every = [naive_accuracy(frame, row, candidate) for candidate in np.linspace(-0.005, 1.005, 203)]
        assert naive_accuracy(frame, row, cut) == pytest.approx(max(every))


def test_a_resample_without_a_class_has_no_best_cut() -> None:
    frame = figures([0.1, 0.4, 0.9], [0, 1, 1])
    found = best_cuts(frame, np.array([[1.0, 1, 1], [0, 1, 1], [1, 0, 0]]))
    assert found[0] == pytest.approx(0.25)
    assert np.isnan(found[1:]).all()


def test_separable_classes_are_cut_midway() -> None:
    frame = figures([0.8, 0.9, 0.1, 0.4], [1, 1, 0, 0])
    assert best_cuts(frame, np.ones((1, 4))) == pytest.approx(0.6)


def test_bagged_threshold_finds_the_crossing_of_the_densities() -> None:
    # Logits N(1, 1) for AMF and N(-1, 1) for NMF: balanced accuracy is greatest at logit 0, confidence 0.5,
    # whatever the prevalence.
    rng = np.random.default_rng(3)
    confidences = expit(np.concatenate([rng.normal(1, 1, 2_000), rng.normal(-1, 1, 10_000)]))
    frame = figures(confidences, np.arange(12_000) < 2_000)
    threshold = fit_threshold(frame, resamples=100)
    assert threshold.value == pytest.approx(0.5, abs=0.04)
    assert threshold.low < threshold.value < threshold.high
    assert fit_threshold(frame.sample(frac=1, random_state=0), resamples=100) == threshold


def test_slides_that_repeat_one_figure_widen_the_thresholds_interval() -> None:
    rng = np.random.default_rng(4)
    label = np.arange(90) % 3 == 0
    once = figures(expit(2 * label - 1 + rng.normal(0, 1, 90)), label)
    tenfold = once.loc[np.repeat(np.arange(90), 10)].reset_index(names="slide")
    aware, blind = (fit_threshold(frame) for frame in (tenfold, tenfold.drop(columns="slide")))
    right = fit_threshold(once)
    assert (aware.low, aware.value, aware.high) == pytest.approx(
        (right.low, right.value, right.high), abs=0.02
    )
    assert blind.high - blind.low < 0.7 * (aware.high - aware.low)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(ValueError, match="all 3 figures are of one class"):
        fit_threshold(figures([0.1, 0.2, 0.3], [0, 0, 0]))
