"""Temperature, bias and threshold of a bundle, from out-of-fold predictions alone, and their worth."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame
from scipy.special import expit

from amf.errors import DataError
from amf.evaluation.bootstrap import intervals
from amf.evaluation.metrics import calibration_error, metrics_of
from amf.evaluation.threshold import fit_threshold
from amf.experiments.card import held_out_in_words, write_card
from amf.experiments.lodo import BY_SLIDE, Lodo
from amf.experiments.paper import paper_metrics
from amf.experiments.plots import draw_calibration, draw_threshold_curve
from amf.experiments.record import markdown, write_csv
from amf.experiments.scores import REPLICATES, called, fit_scale_and_bias, threshold_costs
from amf.files import write_text
from amf.model.bundle import read_spec, write_spec
from amf.model.classifier import CLASSES
from amf.model.digest import FILE_NAME
from amf.model.spec import BundleSpec
from amf.training.recipe import parse_recipe

CALIBRATION, HELD_OUT = "calibration", "held-out.csv"
USEFUL_AUC = 0.6
BY_HAND = " (threshold set by hand)"


@dataclass(frozen=True)
class Calibration:
    """What a bundle takes, and the evidence for it.

    Attributes
    ----------
    temperature, bias, threshold : confidence = sigmoid(logit / temperature + bias), atypical from the
        threshold on.
    interval : 95 % of the best cuts of bootstrap resamples of slides.
    ece : expected calibration error over ten bins: before (temperature 1, bias 0), after, and held_out, each
        fold by the temperature and bias that the other folds choose.
    balanced_accuracy : pooled over figures, before at 0.5, and after at the threshold (which they chose).
    held_out : balanced_accuracy and roc_auc of the same answers, called at the threshold that the other folds
        choose, pooled over figures, and their 95 % intervals, None where there are too few slides.
    warnings : what whoever uses the bundle must know, a sentence each.
    fitted_on : on which figures, scored by which networks, in words.
    """

    temperature: float
    bias: float
    threshold: float
    interval: tuple[float, float]
    ece: dict[str, float]
    balanced_accuracy: dict[str, float]
    held_out: dict[str, Any]
    warnings: list[str]
    fitted_on: str


def calibrate(lodo: Lodo, out: Path) -> Calibration:
    """Fit on the out-of-fold predictions of what ships and write JSON, Markdown, plots and HELD_OUT.

    Temperature and bias first (negative log likelihood), then the threshold on the calibrated confidences:
    that of greatest balanced accuracy over all figures pooled, as the organisers score, so that large domains
    weigh more. HELD_OUT is a table for `amf evaluate`: each fold's answers as the other folds choose.

    Raises
    ------
    DataError : a fold lacks a class.
    """
    predictions, figures = lodo.predictions, len(lodo.predictions)
    for fold, own in predictions.groupby("fold")["label"]:
        if own.nunique() < 2:
            raise DataError(f"{fold}: {own.sum()} of {len(own)} figures are AMF, expected both classes")

    logits, labels = predictions["logit"].to_numpy(np.float64), predictions["label"].to_numpy(np.int64)
    temperature, bias = fit_scale_and_bias(logits, labels)
    before, after = expit(logits), expit(logits / temperature + bias)
    threshold = fit_threshold(predictions.assign(confidence=after))
    answers = called(predictions, calibrated=True)
    held_out = _worth(answers)
    count, unseen = predictions["fold"].nunique(), "slide" if lodo.by_slide else "domain"
    folds = f"one domain in {count} folds by slide" if lodo.by_slide else f"{count} domains"
    result = Calibration(
        temperature=temperature,
        bias=bias,
        threshold=threshold.value,
        interval=(threshold.low, threshold.high),
        ece={
            name: float(calibration_error(labels, confidences)["expected_calibration_error"])
            for name, confidences in (
                ("before", before), ("after", after), ("held_out", answers["confidence"].to_numpy())
            )
        },
        balanced_accuracy={
            "at_0.5": paper_metrics(before, labels)["BA"],
            "at_threshold": paper_metrics(after, labels, threshold.value)["BA"],
        },
        held_out=held_out,
        warnings=list(_warnings(lodo, held_out)),
        fitted_on=(
            f"{figures} out-of-fold figures ({labels.sum()} AMF) of {folds}, each scored by networks that "
            f"never saw its {unseen} ({lodo.names}; table {lodo.table_hash[:12]})"
        ),
    )  # fmt: skip

    write_text(out / f"{CALIBRATION}.json", json.dumps(dataclasses.asdict(result), indent=1) + "\n")
    answers["class"] = np.array(CLASSES)[answers["predicted"]]
    write_csv(answers[["image", "slide", "domain", "label", "class", "confidence"]], out / HELD_OUT)
    report = calibration_report(result)
    if not lodo.by_slide:
        costs = threshold_costs(predictions.assign(confidence=after), threshold.value)
        report += (
            "\nA threshold picked on one domain, and what it would have cost on the others:\n\n"
            + markdown(costs, "picked on")
        )
    write_text(out / f"{CALIBRATION}.md", report)
    draw_threshold_curve(
        after, labels, predictions["fold"].to_numpy(object), threshold, out / "threshold-curve.png"
    )
    draw_calibration(before, after, labels, out / "reliability.png")
    return result


def _worth(answers: DataFrame) -> dict[str, Any]:
    scores, bounds = metrics_of(answers), intervals(answers, REPLICATES, seed=0)
    names = ("balanced_accuracy", "roc_auc")
    return {name: scores[name] for name in names} | {"intervals": {name: bounds[name] for name in names}}


def _warnings(lodo: Lodo, held_out: dict[str, Any]) -> Iterator[str]:
    if lodo.by_slide:
        yield f"Calibration, threshold and measured values come from one domain: {BY_SLIDE}"
    auc, interval = held_out["roc_auc"], held_out["intervals"]["roc_auc"]
    if auc < USEFUL_AUC or (interval and interval[0] <= 0.5):
        yield (
            f"Near chance: {held_out_in_words(held_out)}; of a useful model, AUC and interval are well "
            "above 0.5"
        )


def calibration_report(calibration: Calibration) -> str:
    """The calibration as Markdown."""
    low, high = calibration.interval
    ece, accuracy = calibration.ece, calibration.balanced_accuracy
    return "\n".join(
        [
            f"Fitted on {calibration.fitted_on}.",
            "",
            *(f"**{warning}.**\n" for warning in calibration.warnings),
            f"- temperature {calibration.temperature:.4f}, bias {calibration.bias:+.4f}",
            f"- threshold {calibration.threshold:.4f} "
            f"(95 % of the resampled best cuts: {low:.3f} to {high:.3f})",
            f"- expected calibration error: before {ece['before']:.4f}, after {ece['after']:.4f}, "
            f"with each fold's temperature and bias from the others {ece['held_out']:.4f}",
            f"- balanced accuracy, all figures pooled: at 0.5 {accuracy['at_0.5']:.4f}, at the threshold "
            f"{accuracy['at_threshold']:.4f} (these figures chose it)",
            f"- {held_out_in_words(calibration.held_out)}, with each fold's temperature, bias and threshold "
            "from the others",
            "",
        ]
    )


def calibrate_bundle(calibration: Calibration, lodo: Lodo, folder: Path) -> None:
    """Write temperature, bias, threshold and their provenance into a bundle, and its model card anew.

    Raises
    ------
    BundleError : there is no sound bundle.
    DataError : its members are not the networks that the out-of-fold predictions are of.
    """
    spec = read_spec(folder)
    contents = spec.provenance.get("members", [])
    trained = [parse_recipe(content, f"{folder / FILE_NAME}, provenance") for content in contents]
    lodo.check_members(trained, spec.provenance.get("data", {}).get("table", "unknown"), str(folder))
    _write(
        folder,
        spec,
        temperature=calibration.temperature,
        bias=calibration.bias,
        threshold=calibration.threshold,
        fitted_on=calibration.fitted_on,
        provenance={**spec.provenance, "calibration": dataclasses.asdict(calibration)},
    )


def set_threshold(folder: Path, threshold: float) -> None:
    """Set a bundle's threshold by hand, which the bundle and its card say from then on.

    A bundle.json that was itself edited by hand is taken as it stands, and signed.

    Raises
    ------
    BundleError : there is no sound bundle.
    DataError : the threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise DataError(f"--threshold is {threshold}, expected a number between 0 and 1")
    spec = read_spec(folder, signed=False)
    _write(
        folder,
        spec,
        threshold=threshold,
        fitted_on=spec.fitted_on.removesuffix(BY_HAND) + BY_HAND,
        provenance={**spec.provenance, "threshold": f"set by hand, {spec.threshold:.6g} before"},
    )


def _write(folder: Path, spec: BundleSpec, **changes: Any) -> None:
    spec = dataclasses.replace(spec, **changes)
    write_spec(folder, spec)
    write_card(folder, spec)
