"""Scores of out-of-fold predictions, against values computed by another way."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score

from amf.errors import DataError
from amf.evaluation.threshold import fit_threshold
from amf.experiments.paper import paper_metrics
from amf.experiments.record import markdown
from amf.experiments.scores import called, compare_lodo, score_domains, score_groups, threshold_costs
from amf.experiments.trial import differences
from test.support.drawn import synthetic


def test_scores_are_those_of_a_hand_count() -> None:
    # Called atypical from 0.5 on: AMF 0.9 and 0.5 yes, 0.35 no; NMF 0.6 yes, the others no.
    found = paper_metrics([0.9, 0.5, 0.35, 0.6, 0.1, 0.2, 0.3], [1, 1, 1, 0, 0, 0, 0])
    assert found["AMF recall"] == pytest.approx(2 / 3)
    assert found["NMF recall"] == pytest.approx(3 / 4)
    assert found["BA"] == pytest.approx(17 / 24)
    assert found["F1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["AUC"] == pytest.approx(10 / 12)
    found = paper_metrics([0.9, 0.2], [0, 0])
    assert found["NMF recall"] == 0.5
    assert all(np.isnan(found[name]) for name in ("BA", "F1", "AUC", "AMF recall"))


def test_a_domains_labels_take_no_part_in_its_threshold() -> None:
    predictions = synthetic()
    before = score_domains(called(predictions))
    others = predictions[predictions["domain"] != "b"]
    assert before["threshold"]["b"] == fit_threshold(others.assign(confidence=expit(others["logit"]))).value
    flipped = predictions.assign(
        label=np.where(predictions["domain"] == "b", 1 - predictions["label"], predictions["label"])
    )
    after = score_domains(called(flipped))
    assert after["threshold"]["b"] == before["threshold"]["b"]
    assert after["threshold"]["a"] != before["threshold"]["a"]
    assert after["BA fitted"]["b"] == pytest.approx(1 - before["BA fitted"]["b"])


def test_species_and_tumours_pool_their_domains() -> None:
    predictions = synthetic().assign(tumor=None)
    predictions["species"] = np.where(predictions["domain"] == "c", "canine", "human")
    summary = score_domains(called(predictions))
    groups = score_groups(called(predictions))
    assert list(groups.index) == ["species: canine", "species: human", "tumour: not published"]
    canine, human = groups.loc["species: canine"], groups.loc["species: human"]
    assert canine["BA fitted"] == pytest.approx(summary["BA fitted"]["c"]), "one domain: its own row"
    assert canine["AUC"] == pytest.approx(summary["AUC"]["c"])
    own = predictions[predictions["species"] == "human"]
    right = (expit(own["logit"]) >= own["domain"].map(summary["threshold"])) == own["label"]
    recalls = [right[own["label"] == label].mean() for label in (1, 0)]
    assert (human["AMF recall fitted"], human["NMF recall fitted"]) == pytest.approx(tuple(recalls))
    assert human["BA fitted"] == pytest.approx(np.mean(recalls))
    assert human["BA at 0.5"] == pytest.approx(balanced_accuracy_score(own["label"], own["logit"] >= 0))
    assert (human["domains"], human["n"], human["AMF"]) == (2, len(own), own["label"].sum())
    extremes = [human[f"{end} domain's BA at 0.5"] for end in ("lowest", "highest")]
    assert extremes == sorted(summary["BA at 0.5"][["a", "b"]])
    assert groups.loc["tumour: not published", "n"] == len(predictions)


def test_equal_runs_do_not_differ_and_runs_of_other_figures_are_not_compared() -> None:
    table, sentence = compare_lodo(synthetic(), synthetic().sample(frac=1, random_state=1))
    assert (table["BA fitted: B − A"] == 0).all()
    assert sentence.count("+0.000 (95 % interval +0.000 to +0.000, p 1.000; slides resampled") == 3
    with pytest.raises(DataError, match="600 and 597 figures"):
        compare_lodo(synthetic(), synthetic(597))


def test_the_compared_interval_is_that_of_a_naive_loop_over_slides() -> None:
    a, b = synthetic(seed=0), synthetic(seed=0)
    b["logit"] += np.random.default_rng(5).normal(0, 1.5, len(b))
    _, sentence = compare_lodo(a, b)
    line = next(line for line in sentence.splitlines() if "mean over domains" in line)
    low, high = (float(part) for part in line.split("interval ")[1].split(",")[0].split(" to "))

    rng = np.random.default_rng(9)
    cut = {name: score_domains(called(frame))["threshold"] for name, frame in (("a", a), ("b", b))}
    right = {
        name: ((expit(frame["logit"]) >= frame["domain"].map(cut[name])) == (frame["label"] == 1)).to_numpy()
        for name, frame in (("a", a), ("b", b))
    }
    slides = list(a.groupby("slide").indices.values())
    groups = [
        [rows for rows in slides if a["label"].iloc[rows].any() == with_amf] for with_amf in (True, False)
    ]
    strata = [stratum for stratum in groups if stratum]
    domain, label = a["domain"].to_numpy(), a["label"].to_numpy()
    naive = []
    for _ in range(500):
        rows = np.concatenate(
            [stratum[k] for stratum in strata for k in rng.integers(0, len(stratum), len(stratum))]
        )
        accuracy = {
            name: np.mean(
                [
                    right[name][rows[(domain[rows] == d) & (label[rows] == c)]].mean()
                    for d in "abc"
                    for c in (0, 1)
                ]
            )
            for name in right
        }
        naive.append(accuracy["b"] - accuracy["a"])  # two classes a domain: the mean of recalls is mean BA
    np.testing.assert_allclose([low, high], np.quantile(naive, [0.025, 0.975]), atol=0.006)


def test_a_variants_scores_are_differences_to_the_baseline() -> None:
    rows = [("baseline", 0.60, 0.62, 0.64), ("color", 0.70, 0.60, 0.68)]
    metrics = ["BA", "F1", "AUC", "AMF recall", "NMF recall"]
    by_fold = pd.DataFrame(
        [
            {"variant": cell, "fold": fold, **dict.fromkeys(metrics, value)}
            for cell, *values in rows
            for fold, value in enumerate(values)
        ]
    )
    own, paired = differences(by_fold, paired=False), differences(by_fold, paired=True)
    assert list(own.index) == ["baseline", "color"]
    for table, std in (
        (own, np.sqrt((0.04**2 + 0.06**2 + 0.02**2) / 2)),  # of .70, .60, .68, as the paper's caption has it
        (paired, np.sqrt((0.06**2 + 0.06**2 + 0**2) / 2)),  # of +.10, -.02, +.04
    ):
        assert table.loc["baseline", ["BA", "BA std"]].tolist() == pytest.approx([0.62, 0.02])
        assert table.loc["color", ["BA", "BA std"]].tolist() == pytest.approx([0.04, std])
        assert table["BA better"]["color"] == 2


def test_a_threshold_of_the_shifted_domain_costs_the_others() -> None:
    predictions = synthetic(3000)
    predictions["confidence"] = expit(predictions["logit"])
    costs = threshold_costs(predictions, pooled=0.5)
    cut = costs["threshold"]["b"]
    others = predictions[predictions["domain"] != "b"]
    amf, nmf = others["confidence"][others["label"] == 1], others["confidence"][others["label"] == 0]
    there = ((amf >= cut).mean() + (nmf < cut).mean()) / 2
    at_half = ((amf >= 0.5).mean() + (nmf < 0.5).mean()) / 2
    assert costs["cost"]["b"] == pytest.approx(at_half - there)
    assert costs["cost"]["b"] > 0.05 > abs(costs["cost"]["a"])


def test_markdown_has_a_cell_for_everything() -> None:
    table = pd.DataFrame({"n": [3, ""], "BA": [0.5, np.nan]}, index=["a", "mean"])
    assert (
        markdown(table, "domain")
        == "| domain | n | BA |\n|---|---|---|\n| a | 3 | 0.500 |\n| mean |  | – |\n"
    )
