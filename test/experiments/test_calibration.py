"""Scale, bias and threshold against brute force and closed forms."""

import json
from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score

from amf.errors import DataError
from amf.evaluation.metrics import metrics_of
from amf.evaluation.predictions import read
from amf.evaluation.threshold import best_cuts, fit_threshold
from amf.experiments.calibration import HELD_OUT, calibrate
from amf.experiments.lodo import Lodo, Member
from amf.experiments.scores import fit_scale_and_bias
from test.support.drawn import synthetic
from test.support.small import compact_recipe


def test_scale_and_bias_have_the_least_loss() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(-0.5, 2, 400)
    labels = rng.random(400) < expit(0.7 * logits - 1)

    def loss(at: list[float]) -> float:
        z = at[0] * logits + at[1]
        return float(np.mean(np.logaddexp(0, z) - labels * z))

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-14}).x
    temperature, bias = fit_scale_and_bias(logits, labels)
    assert (1 / temperature, bias) == pytest.approx(tuple(best), abs=1e-4)
    # With a bias of its own, the mean confidence is the share of AMF: the overstatement is gone.
    assert expit(logits / temperature + bias).mean() == pytest.approx(labels.mean(), abs=1e-9)


@pytest.mark.parametrize(("labels", "temperature"), [([1, 0, 1, 0], 20), ([0, 1, 0, 1], 1 / 20)])
def test_a_scale_never_turns_the_order_around_nor_grows_without_end(
    labels: list[int], temperature: float
) -> None:
    assert fit_scale_and_bias([-1.0, 1.0, -2.0, 2.0], labels) == pytest.approx((temperature, 0), abs=1e-9)


def test_calibration_recovers_temperature_bias_and_threshold(tmp_path: Path) -> None:
    predictions = synthetic(9_000, scale=2.5)
    predictions = predictions[predictions["domain"] != "b"]
    predictions["logit"] += 2.5 * 1.5  # as training on both classes alike overstates P(atypical)
    found = calibrate(lodo_of(predictions), tmp_path / "out")
    assert found.temperature == pytest.approx(2.5, rel=0.05)
    assert found.bias == pytest.approx(-1.5, abs=0.06)
    # Where confidence = P(AMF), balanced accuracy is greatest from the prevalence on.
    assert found.threshold == pytest.approx(predictions["label"].mean(), abs=0.04)
    assert found.interval[0] < found.threshold < found.interval[1]
    assert found.ece["after"] < 0.02 < 0.1 < found.ece["before"]
    assert found.ece["held_out"] < 0.02
    assert found.balanced_accuracy["at_threshold"] > found.balanced_accuracy["at_0.5"]
    assert (
        f"{len(predictions)} out-of-fold figures ({predictions['label'].sum()} AMF) of 2 domains"
        in found.fitted_on
    )
    saved = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert (saved["temperature"], saved["threshold"]) == (found.temperature, found.threshold)
    answers = read(tmp_path / "out" / HELD_OUT).figures
    assert metrics_of(answers)["balanced_accuracy"] == pytest.approx(found.held_out["balanced_accuracy"])
    assert answers["confidence"].mean() == pytest.approx(predictions["label"].mean(), abs=0.02)
    for plot in ("threshold-curve.png", "reliability.png"):
        assert (tmp_path / "out" / plot).stat().st_size > 10_000


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="all 3 figures are of one class"):
        fit_threshold(figures([0.1, 0.2, 0.3], [0, 0, 0]))
    predictions = synthetic()
    predictions.loc[predictions["domain"] == "c", "label"] = 0
    with pytest.raises(DataError, match="c: 0 of 200 figures are AMF"):
        calibrate(lodo_of(predictions), tmp_path / "out")


def lodo_of(predictions: DataFrame) -> Lodo:
    """A finished LODO run with these predictions."""
    return Lodo((Member(compact_recipe(), {"a": 3}),), predictions, "0123456789abcdef")


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
