"""The organisers' numbers against values computed by plain loops and by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from pandas import DataFrame
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score, roc_auc_score

from amf.evaluation import metrics, predictions, threshold

RNG = np.random.default_rng(0)


def drawn_figures(count: int = 400, domains: int = 4) -> DataFrame:
    label = RNG.integers(0, 2, count)
    confidence = np.clip(0.5 + 0.15 * (2 * label - 1) + RNG.normal(0, 0.25, count), 0, 1).round(
        2
    )  # with ties
    return DataFrame(
        {
            "image": [f"{k}.png" for k in range(count)],
            "label": label,
            "predicted": (confidence >= 0.6).astype(int),
            "confidence": confidence,
            "domain": RNG.integers(0, domains, count),
        }
    )


def naive_auc(label: list[int], confidence: list[float]) -> float:
    """The share of AMF-NMF pairs in the right order, ties one half, pair by pair."""
    amf, nmf = ([p for y, p in zip(label, confidence, strict=True) if y == of] for of in (1, 0))
    return sum((a > n) + (a == n) / 2 for a in amf for n in nmf) / (len(amf) * len(nmf))


def test_organisers_example_to_the_last_digit(shared_data: Path) -> None:
    folder = shared_data / "grand-challenge" / "evaluation"
    found, notes = metrics.aggregates(predictions.read(folder).figures)

    # Counted by hand in the three outputs: TP 2 + 3 + 0, FN 1 + 0 + 0, FP 3 + 7 + 0, TN 10 + 6 + 1.
    assert found["overall_sensitivity"] == 5 / 6
    assert found["overall_specificity"] == 17 / 27
    assert found["overall_balanced_accuracy"] == (17 / 27 + 5 / 6) / 2
    assert found["overall_accuracy"] == 22 / 33
    assert found["domain_1"]["sensitivity"] == 5 / 6
    assert found["domain_1"]["specificity"] == 16 / 26
    assert found["domain_1"]["balanced_accuracy"] == (5 / 6 + 16 / 26) / 2
    assert found["domain_1"]["accuracy"] == 21 / 32
    assert found["domain_6"] == {
        "sensitivity": 0.0,
        "specificity": 1.0,
        "balanced_accuracy": 0.5,
        "accuracy": 1.0,
        "roc_auc": None,
    }
    assert len(notes) == 1
    assert notes[0].startswith("Domain 6 has no atypical figure: its ROC AUC is undefined")

    # The AUC from the files themselves, pair by pair.
    truth = {
        entry["image"]: entry["labels"] for entry in json.loads((folder / "ground_truth.json").read_text())
    }
    label, confidence = [], []
    for job in json.loads((folder / "predictions.json").read_text()):
        output = folder / job["pk"] / "output" / "multiple-mitotic-figure-classification.json"
        label += [int(name == "atypical") for name in truth[job["inputs"][0]["image"]["name"]]]
        confidence += [answer["confidence"] for answer in json.loads(output.read_text())]
    assert found["overall_roc_auc"] == pytest.approx(naive_auc(label, confidence), rel=0, abs=1e-15)
    auc = naive_auc(label[:32], confidence[:32])  # domain 1: all but the last figure
    assert found["domain_1"]["roc_auc"] == pytest.approx(auc, rel=0, abs=1e-15)


def test_aggregates_are_scikit_learns() -> None:
    figures = drawn_figures()
    found, notes = metrics.aggregates(figures)

    assert notes == []
    assert set(found) == {f"overall_{name}" for name in metrics.METRICS} | {f"domain_{k}" for k in range(4)}
    for domain in range(4):
        part = figures[figures["domain"] == domain]
        y, predicted = part["label"], part["predicted"]
        sensitivity, specificity = recall_score(y, predicted), recall_score(y, predicted, pos_label=0)
        assert found[f"domain_{domain}"] == {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "accuracy": accuracy_score(y, predicted),
            "roc_auc": roc_auc_score(y, part["confidence"]),
        }


def test_calibration_by_a_naive_loop() -> None:
    figures = drawn_figures()
    label, confidence = figures["label"].to_numpy(), figures["confidence"].to_numpy()
    error = 0.0
    for low in range(10):
        inside = [
            (y, p)
            for y, p in zip(label, confidence, strict=True)
            if low / 10 <= p < (low + 1) / 10 or (low == 9 and p == 1)
        ]
        if inside:
            error += abs(sum(y for y, _ in inside) - sum(p for _, p in inside)) / len(label)

    found = metrics.calibration_error(label, confidence)

    assert found["expected_calibration_error"] == pytest.approx(error, abs=1e-12)  # sums in another order
    assert found["brier_score"] == pytest.approx(
        sum((p - y) ** 2 for p, y in zip(confidence, label, strict=True)) / 400
    )


def test_threshold_curve_and_regret_by_trying_every_threshold() -> None:
    figures = drawn_figures()
    label, confidence = figures["label"], figures["confidence"]
    tried = {t: balanced_accuracy_score(label, confidence >= t) for t in sorted(set(confidence))}

    curve = threshold.threshold_curve(label.to_numpy(), confidence.to_numpy())
    assert dict(zip(curve["threshold"], curve["balanced_accuracy"], strict=True)) == pytest.approx(
        tried, abs=1e-12
    )

    found = threshold.threshold_regret(figures)
    assert threshold.confidence_notes(figures) == []
    assert found["best_balanced_accuracy"] == pytest.approx(max(tried.values()), abs=1e-12)
    assert tried[found["best_threshold"]] == pytest.approx(max(tried.values()), abs=1e-12)
    assert found["regret"] == pytest.approx(max(tried.values()) - tried[0.6], abs=1e-12)
    assert found["highest_normal"] < 0.6 <= found["lowest_atypical"]


def test_confidences_of_something_else_are_noticed() -> None:
    figures = drawn_figures()
    chosen = np.where(figures["predicted"] == 1, figures["confidence"], 1 - figures["confidence"])
    (note,) = threshold.confidence_notes(figures.assign(confidence=chosen))
    assert "Expected P(atypical)" in note
    assert f"it would be {roc_auc_score(figures['label'], figures['confidence']):.4f}" in note

    turned = figures.assign(confidence=1 - figures["confidence"], predicted=1 - figures["predicted"])
    (note,) = threshold.confidence_notes(turned)
    assert "below 0.5: labels or confidences may be turned round" in note


def test_a_threshold_for_each_domain_is_no_fault() -> None:
    figures = drawn_figures()
    own = figures["domain"].map({0: 0.3, 1: 0.45, 2: 0.6, 3: 0.75})
    figures["predicted"] = (figures["confidence"] >= own).astype(int)
    assert threshold.confidence_notes(figures) == []


def test_all_called_normal_leaves_no_atypical_confidence() -> None:
    figures = drawn_figures().assign(predicted=0)
    found = threshold.threshold_regret(figures)
    assert found["lowest_atypical"] is None
    assert found["regret"] > 0
    assert threshold.confidence_notes(figures) == []


def test_reliability_puts_the_ends_into_the_outer_bins() -> None:
    table = metrics.reliability(np.array([0, 1, 1, 0]), np.array([0.0, 0.05, 0.95, 1.0]))
    assert table["count"].tolist() == [2, 2]
    assert table["confidence"].tolist() == [0.025, 0.975]
    assert table["atypical"].tolist() == [0.5, 0.5]
