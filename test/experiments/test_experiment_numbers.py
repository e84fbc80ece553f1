"""The experiments' numbers on synthetic predictions, against values computed by another way."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import balanced_accuracy_score

from amf.errors import DataError, RecipeError
from amf.evaluation import bootstrap
from amf.evaluation.metrics import metrics_of
from amf.evaluation.predictions import Predictions, read
from amf.evaluation.threshold import fit_threshold
from amf.experiments.ablation import differences
from amf.experiments.calibration import HELD_OUT, calibrate
from amf.experiments.lodo import Lodo, Member
from amf.experiments.paper import paper_metrics
from amf.experiments.record import markdown, with_mean_and_std
from amf.experiments.scores import compare_lodo, score_domains, score_groups, threshold_costs
from amf.training.recipe import read_recipe, read_recipes, read_variants
from test.support.small import compact_recipe


def synthetic(figures: int = 600, scale: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Three domains; P(AMF | logit) = sigmoid(logit / scale), but for "b", shifted by 2 scale."""
    rng = np.random.default_rng(seed)
    domain = np.array(["a", "b", "c"])[np.arange(figures) % 3]
    true = rng.normal(-0.5, 2, figures)
    label = (rng.random(figures) < expit(true)).astype(int)
    return pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(figures)],
            "domain": domain,
            "fold": domain,
            "slide": [f"slide {i // 3 % 40} of {name}" for i, name in enumerate(domain)],
            "label": label,
            "logit": scale * (true + 2 * (domain == "b")),
        }
    )


def test_scores_are_those_of_a_hand_count() -> None:
    # Called atypical from 0.5 on: AMF 0.9 and 0.5 yes, 0.35 no; NMF 0.6 yes, the others no.
    found = paper_metrics([0.9, 0.5, 0.35, 0.6, 0.1, 0.2, 0.3], [1, 1, 1, 0, 0, 0, 0])
    assert found["AMF recall"] == pytest.approx(2 / 3)
    assert found["NMF recall"] == pytest.approx(3 / 4)
    assert found["BA"] == pytest.approx(17 / 24)
    assert found["F1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["AUC"] == pytest.approx(10 / 12)


def test_scores_without_a_class_are_not_numbers() -> None:
    found = paper_metrics([0.9, 0.2], [0, 0])
    assert found["NMF recall"] == 0.5
    assert all(np.isnan(found[name]) for name in ("BA", "F1", "AUC", "AMF recall"))


def test_a_domains_labels_take_no_part_in_its_threshold() -> None:
    predictions = synthetic()
    before = score_domains(predictions)
    others = predictions[predictions["domain"] != "b"]
    assert before["threshold"]["b"] == fit_threshold(others.assign(confidence=expit(others["logit"]))).value
    flipped = predictions.assign(
        label=np.where(predictions["domain"] == "b", 1 - predictions["label"], predictions["label"])
    )
    after = score_domains(flipped)
    assert after["threshold"]["b"] == before["threshold"]["b"]
    assert after["threshold"]["a"] != before["threshold"]["a"]
    assert after["BA fitted"]["b"] == pytest.approx(1 - before["BA fitted"]["b"])


def test_species_and_tumours_pool_their_domains() -> None:
    predictions = synthetic().assign(tumor=None)
    predictions["species"] = np.where(predictions["domain"] == "c", "canine", "human")
    summary = score_domains(predictions)
    groups = score_groups(predictions, with_mean_and_std(summary))
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


def test_the_order_of_the_figures_decides_nothing() -> None:
    pd.testing.assert_frame_equal(
        score_domains(synthetic()), score_domains(synthetic().sample(frac=1, random_state=2))
    )


def test_equal_runs_do_not_differ() -> None:
    table, sentence = compare_lodo(synthetic(), synthetic().sample(frac=1, random_state=1))
    assert (table["BA fitted: B − A"] == 0).all()
    assert sentence.count("+0.000 (95 % interval +0.000 to +0.000, p 1.000; slides resampled") == 3


def slide_effects(generator: np.random.Generator, slides: int = 30) -> pd.DataFrame:
    """Figures whose logit is shifted by slide, by three times one figure's own noise.

    Two recipes that are equally good err on different slides: each has its own draw of the shifts.
    """
    slide = np.repeat(np.arange(slides), 25)
    label = (generator.random(len(slide)) < 0.4).astype(int)
    frame = pd.DataFrame({"image": [f"{i:04}.png" for i in range(len(slide))], "label": label})
    frame["domain"] = np.where(slide % 2, "a", "b")
    frame["slide"] = [f"slide {number}" for number in slide]
    for name in "AB":
        shift = generator.normal(0, 3, slides)[slide]
        frame[name] = 2 * label - 1 + shift + generator.normal(0, 1, len(slide))
    return frame


def test_of_equal_recipes_under_slide_effects_one_interval_in_twenty_excludes_zero() -> None:
    generator, excluded, by_figure = np.random.default_rng(0), 0, 0
    for _ in range(60):
        frame = slide_effects(generator)
        a, b = (
            Predictions(
                Path(name), frame.assign(page=0, confidence=expit(frame[name]), predicted=(frame[name] >= 0))
            )
            for name in "AB"
        )
        for unit, columns in (("slide", []), ("figure", ["slide"])):
            pair = [Predictions(p.source, p.figures.drop(columns=columns)) for p in (a, b)]
            low, high = bootstrap.compare(*pair, 100, seed=0)["mean_domain_balanced_accuracy"]["interval"]
            excluded += unit == "slide" and not low <= 0 <= high
            by_figure += unit == "figure" and not low <= 0 <= high
    assert excluded <= 8  # 60 x 5 % = 3, and three standard deviations of the binomial
    assert by_figure >= 12, "the effects are strong: resampling figures excludes zero four times as often"


def test_the_thresholds_interval_covers_the_best_cut_under_slide_effects() -> None:
    # Logits N(±1, 1) about a shift by slide of mean 0: the best cut of the population is 0, confidence 0.5.
    generator, covered, by_figure = np.random.default_rng(1), 0, 0
    for _ in range(40):
        frame = slide_effects(generator, slides=60)
        frame = frame.assign(confidence=expit(frame["A"]))
        threshold = fit_threshold(frame, resamples=100)
        covered += threshold.low <= 0.5 <= threshold.high
        alone = fit_threshold(frame.drop(columns="slide"), resamples=100)
        by_figure += alone.low <= 0.5 <= alone.high
    assert covered >= 34  # 40 x 95 % = 38, less three standard deviations of the binomial
    assert by_figure <= 30, "figures resampled alone give an interval that is far too short"


def test_the_compared_interval_is_that_of_a_naive_loop_over_slides() -> None:
    a, b = synthetic(seed=0), synthetic(seed=0)
    b["logit"] += np.random.default_rng(5).normal(0, 1.5, len(b))
    _, sentence = compare_lodo(a, b)
    line = next(line for line in sentence.splitlines() if "mean over domains" in line)
    low, high = (float(part) for part in line.split("interval ")[1].split(",")[0].split(" to "))

    rng = np.random.default_rng(9)
    cut = {name: score_domains(frame)["threshold"] for name, frame in (("a", a), ("b", b))}
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


def test_runs_of_other_figures_are_not_compared() -> None:
    with pytest.raises(DataError, match="600 and 597 figures"):
        compare_lodo(synthetic(), synthetic(597))


def test_ablation_differences_follow_the_papers_caption() -> None:
    rows = [("baseline", 0.60, 0.62, 0.64), ("color", 0.70, 0.60, 0.68)]
    by_fold = pd.DataFrame(
        [
            {
                "variant": cell,
                "fold": fold,
                **dict.fromkeys(["BA", "F1", "AUC", "AMF recall", "NMF recall"], value),
            }
            for cell, *values in rows
            for fold, value in enumerate(values)
        ]
    )
    table = differences(by_fold)
    assert list(table.index) == ["baseline", "color"]
    assert table["BA"]["baseline"] == pytest.approx(0.62)
    assert table["BA std"]["baseline"] == pytest.approx(0.02)
    assert table["BA"]["color"] == pytest.approx(0.66 - 0.62)
    assert table["BA std"]["color"] == pytest.approx(np.sqrt((0.04**2 + 0.06**2 + 0.02**2) / 2))
    assert table["folds better"]["color"] == 2


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
    before, gap = expit(predictions["logit"]), 0.0
    for low in np.arange(10) / 10:
        inside = (before >= low) & (before < low + 0.1)
        gap += abs(before[inside].sum() - predictions["label"][inside].sum())
    assert found.ece["before"] == pytest.approx(gap / len(predictions), abs=1e-4)
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


def test_a_domain_of_one_class_is_not_calibrated_on(tmp_path: Path) -> None:
    predictions = synthetic()
    predictions.loc[predictions["domain"] == "c", "label"] = 0
    with pytest.raises(DataError, match="c: 0 of 200 figures are AMF"):
        calibrate(lodo_of(predictions), tmp_path / "out")


def lodo_of(predictions: pd.DataFrame) -> Lodo:
    """A finished LODO run with these predictions."""
    return Lodo((Member(compact_recipe(), {"a": 3}),), predictions, "0123456789abcdef")


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


GRID = """
name: base
model: {backbone: h-optimus-0, weights: hub, train: lora, lora: {}}
grid:
  model.lora.rank: [4, 8]
  optimise.learning_rate: [1.0e-4, 3.0e-4]
"""


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(GRID)
    recipes = read_recipes(path)
    values = [
        (recipe.model.lora and recipe.model.lora.rank, recipe.optimise.learning_rate) for recipe in recipes
    ]
    assert values == [(4, 1e-4), (4, 3e-4), (8, 1e-4), (8, 3e-4)]
    assert recipes[1].name == "base, model.lora.rank 4, optimise.learning_rate 0.0003"
    assert recipes[0].optimise.epochs == 20
    with pytest.raises(RecipeError, match="has the section 'grid', expected a single recipe"):
        read_recipe(path)


def test_variants_change_the_recipe_each_apart(tmp_path: Path) -> None:
    path = tmp_path / "variants.yaml"
    base = GRID.partition("grid:")[0]
    path.write_text(base + "variants:\n  longer: {optimise.epochs: 30}\n  no MixUp: {mixup: null}\n")
    variants = read_variants(path)
    assert list(variants) == ["baseline", "longer", "no MixUp"]
    assert [recipe.optimise.epochs for recipe in variants.values()] == [20, 30, 20]
    assert [recipe.mixup for recipe in variants.values()] == ["standard", "standard", None]
    assert variants["longer"].name == "base: longer"
    with pytest.raises(RecipeError, match="has the section 'variants', expected a single recipe"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("variants", "fault"),
    [
        ("variants: [1]", "expected a set of changes by name"),
        ("variants: {longer: {}}", "expected a set of changes by name"),
        ("variants: {baseline: {mixup: null}}", "none named 'baseline'"),
        ("variants: {deeper: {swin.depth: 3}}", "swin.depth is unknown"),
        ("", "variants is None"),
    ],
)
def test_other_variants_are_refused(tmp_path: Path, variants: str, fault: str) -> None:
    path = tmp_path / "variants.yaml"
    path.write_text(GRID.partition("grid:")[0] + variants)
    with pytest.raises(RecipeError, match=fault):
        read_variants(path)


def test_a_file_without_a_grid_is_a_grid_of_one(tmp_path: Path) -> None:
    path = tmp_path / "single.yaml"
    path.write_text(GRID.partition("grid:")[0])
    assert read_recipes(path) == [read_recipe(path)]


@pytest.mark.parametrize(
    ("grid", "fault"),
    [
        ("optimise.rate: [1]", "optimise.rate"),
        ("optimise.epochs: 5", "expected a list of values"),
        ("optimise.epochs: []", "expected a list of values"),
        ("optimise.epochs: [5, 5]", "every value of a key once"),
        ("optimise.epochs: [5, 0]", "optimise.epochs"),
        ("swin.depth: [1]", "swin.depth is unknown"),
    ],
)
def test_a_faulty_grid_is_refused_by_name(tmp_path: Path, grid: str, fault: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(f"{GRID.partition('grid:')[0]}grid:\n  {grid}\n")
    with pytest.raises(RecipeError, match=fault):
        read_recipes(path)
