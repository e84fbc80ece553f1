"""Intervals and tests against naive loops, known distributions and hand-worked cases."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame
from scipy.stats import binom
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

from amf.errors import DataError
from amf.evaluation import bootstrap
from amf.evaluation.metrics import METRICS
from amf.evaluation.predictions import Predictions


def draw(count: int, separation: float = 1.0, seed: int = 0, slides: int | None = None) -> DataFrame:
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 3 == 0
    logit = separation * (2 * label - 1) + rng.normal(0, 1, count)
    confidence = (1 / (1 + np.exp(-logit))).round(3)
    figures = DataFrame(
        {
            "image": [f"{k}.png" for k in range(count)],
            "page": 0,
            "label": label.astype(int),
            "predicted": (confidence >= 0.5).astype(int),
            "confidence": confidence,
        }
    )
    return figures if slides is None else figures.assign(slide=[f"s{k % slides}" for k in range(count)])


def test_weighted_metrics_are_those_of_the_repeated_figures() -> None:
    figures = draw(60)
    weights = np.random.default_rng(1).integers(0, 4, (5, 60))
    found = bootstrap.weighted_scorer(figures)(weights.astype(float))
    for row, counts in zip(found, weights, strict=True):
        repeated = figures.loc[np.repeat(np.arange(60), counts)]
        y, predicted = repeated["label"], repeated["predicted"]
        expected = [
            recall_score(y, predicted),
            recall_score(y, predicted, pos_label=0),
            balanced_accuracy_score(y, predicted),
            accuracy_score(y, predicted),
            roc_auc_score(y, repeated["confidence"]),
        ]
        np.testing.assert_allclose(row, expected, atol=1e-12)


def test_interval_of_the_sensitivity_is_the_binomials() -> None:
    figures = draw(900)  # 300 AMF; resampled within the class, the found ones are binomial
    found = int(((figures["label"] == 1) & (figures["predicted"] == 1)).sum())

    intervals = bootstrap.intervals(figures, 2000, seed=0)
    assert (
        bootstrap.intervals(figures, 2000, seed=0) == intervals != bootstrap.intervals(figures, 2000, seed=1)
    )
    low, high = intervals["sensitivity"]

    expected = binom.ppf([0.025, 0.975], 300, found / 300) / 300
    # The simulated quantile may lie a figure or two beside the exact one.
    np.testing.assert_allclose([low, high], expected, atol=2.01 / 300)


def test_slides_that_repeat_one_figure_widen_the_interval() -> None:
    once = draw(90)
    tenfold = once.loc[np.repeat(np.arange(90), 10)].reset_index(drop=True)
    blind = bootstrap.intervals(tenfold, 1000, seed=0)["roc_auc"]
    aware = bootstrap.intervals(tenfold.assign(slide=tenfold["image"]), 1000, seed=0)["roc_auc"]
    right = bootstrap.intervals(once, 1000, seed=0)["roc_auc"]

    assert aware == pytest.approx(right, abs=1e-12)  # the same draws of the same units
    assert blind[1] - blind[0] < 0.5 * (right[1] - right[0])


def test_no_interval_where_nothing_can_vary() -> None:
    none = dict.fromkeys(METRICS)
    figures = draw(30)
    assert bootstrap.intervals(figures[figures["label"] == 0], 100, seed=0) == none
    assert bootstrap.intervals(figures.assign(slide="one"), 100, seed=0) == none
    one_positive = figures[(figures["label"] == 0) | (figures.index == 0)]
    assert bootstrap.intervals(one_positive, 100, seed=0) == none
    assert bootstrap.intervals(one_positive.assign(slide=one_positive.index % 5), 100, seed=0) == none


def test_slide_that_alone_has_no_atypical_figure_is_drawn_with_the_others() -> None:
    figures = draw(40)
    figures["slide"] = [
        ("normal" if label == 0 and k > 30 else f"s{k // 6}") for k, label in enumerate(figures["label"])
    ]
    assert [s for s, part in figures.groupby("slide") if part["label"].sum() == 0] == ["normal"]

    weights = np.concatenate(list(bootstrap.resampled(figures, 300, seed=0)))
    drawn = weights[:, (figures["slide"] == "normal").to_numpy()][:, 0]

    assert drawn.min() == 0  # not in every replicate
    assert abs(drawn.mean() - 1) < 0.2  # 300 draws of a Poisson-like count: three standard errors are 0.17
    assert bootstrap.intervals(figures, 300, seed=0)["roc_auc"] is not None


def test_every_replicate_has_as_many_slides_with_and_without_an_atypical_figure() -> None:
    figures = draw(60).assign(slide=[f"s{k // 2}" for k in range(60)])  # 20 slides with an AMF, 10 without
    with_amf = figures.groupby("slide", sort=False)["label"].transform("max").to_numpy()
    for weights in bootstrap.resampled(figures, 50, seed=0):
        assert ((weights * with_amf).sum(axis=1) == 40).all()
        assert (weights.sum(axis=1) == 60).all()


def naive_delong(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """z by the double loops of the 1988 paper: kernel, structural components, covariances S10 and S01."""

    def kernel(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    areas, v10, v01 = [], [], []
    for scores in (first, second):
        amf, nmf = scores[label == 1], scores[label == 0]
        v10.append([np.mean([kernel(x, y) for y in nmf]) for x in amf])
        v01.append([np.mean([kernel(x, y) for x in amf]) for y in nmf])
        areas.append(np.mean(v10[-1]))
    covariance = np.cov(v10) / len(v10[0]) + np.cov(v01) / len(v01[0])
    contrast = np.array([1.0, -1.0])
    return float((areas[0] - areas[1]) / np.sqrt(contrast @ covariance @ contrast))


def test_delong_is_the_papers_double_loop() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 80)
    first = (label + rng.normal(0, 1, 80)).round(1)  # with ties
    second = (label + rng.normal(0, 2, 80)).round(1)

    z, p = bootstrap.delong(label, first, second)

    assert z == pytest.approx(naive_delong(label, first, second), abs=1e-10)
    assert p == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(abs(z) / 2**0.5))))


def test_delong_at_its_edges() -> None:
    label, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert bootstrap.delong(label, scores, scores) == (None, 1.0)
    assert bootstrap.delong(label, scores, -scores) == (None, 0.0)
    assert bootstrap.delong(np.array([0, 0, 1]), scores[:3], scores[:3]) == (None, None)


def as_predictions(figures: DataFrame, name: str) -> Predictions:
    return Predictions(Path(name), figures)


def test_comparison_sees_a_difference_and_no_difference() -> None:
    good, poor = draw(300, 2.0), draw(300, 0.5, seed=1)
    found = bootstrap.compare(as_predictions(good, "a"), as_predictions(poor, "b"), 1000, seed=0)
    assert found["other"] == "b"
    for name, exact in [("roc_auc", roc_auc_score), ("balanced_accuracy", balanced_accuracy_score)]:
        column = "confidence" if name == "roc_auc" else "predicted"
        assert found[name]["first"] == pytest.approx(exact(good["label"], good[column]))
        assert found[name]["second"] == pytest.approx(exact(poor["label"], poor[column]))
        assert found[name]["interval"][0] > 0
        assert found[name]["p"] == pytest.approx(2 / 1001)  # no replicate beyond zero
    assert found["delong"]["p"] < 1e-6

    same = bootstrap.compare(as_predictions(good, "a"), as_predictions(good, "b"), 200, seed=0)
    assert same["roc_auc"]["p"] == same["balanced_accuracy"]["p"] == same["delong"]["p"] == 1
    assert same["roc_auc"]["interval"] == [0, 0]

    shuffled = poor.sample(frac=1, random_state=0)  # figures are matched by name
    again = bootstrap.compare(as_predictions(good, "a"), as_predictions(shuffled, "b"), 1000, seed=0)
    assert again == found


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda figures: figures[1:], "holds other figures than"),
        (lambda figures: figures.assign(label=1 - figures["label"]), "has other labels than"),
    ],
)
def test_comparison_refuses_other_figures_and_other_truth(
    change: Callable[[DataFrame], DataFrame], fault: str
) -> None:
    figures = draw(30)
    with pytest.raises(DataError, match=fault):
        bootstrap.compare(as_predictions(figures, "a"), as_predictions(change(figures), "b"), 10, seed=0)
