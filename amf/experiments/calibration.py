"""Temperature, bias and threshold of a bundle, from out-of-fold predictions alone, and their worth."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame
from scipy.optimize import minimize
from scipy.special import expit

from amf.errors import DataError
from amf.evaluation.metrics import calibration_error
from amf.evaluation.threshold import Threshold, fit_threshold
from amf.experiments.card import model_card
from amf.experiments.export import CARD, member_spec
from amf.experiments.lodo import Lodo, member_name
from amf.experiments.paper import paper_metrics
from amf.experiments.plots import draw_calibration, draw_threshold_curve
from amf.experiments.record import markdown
from amf.files import write_text, written_whole
from amf.model.bundle import read_spec, write_spec
from amf.model.classifier import CLASSES
from amf.model.digest import FILE_NAME
from amf.model.spec import BundleSpec
from amf.training.recipe import parse_recipe

CALIBRATION, HELD_OUT = "calibration", "held-out.csv"


@dataclass(frozen=True)
class Calibration:
    """What a bundle takes, and the evidence for it.

    Attributes
    ----------
    temperature, bias, threshold : confidence = sigmoid(logit / temperature + bias), atypical from the
        threshold on.
    interval : 95 % of the best cuts of bootstrap resamples of slides.
    ece : expected calibration error over ten bins: before (temperature 1, bias 0), after, and held_out,
        where each domain takes the temperature and bias that the other domains choose.
    balanced_accuracy : pooled over figures, before at 0.5, at the threshold (which these figures chose), and
        held_out, each domain at the temperature, bias and threshold that the others choose.
    fitted_on : on which figures, in words.
    members : the recipes whose networks scored the figures, their logits averaged; table_hash : of the table.
    """

    temperature: float
    bias: float
    threshold: float
    interval: tuple[float, float]
    ece: dict[str, float]
    balanced_accuracy: dict[str, float]
    fitted_on: str
    members: list[dict[str, Any]]
    table_hash: str


def calibrate(lodo: Lodo, out: Path) -> Calibration:
    """Fit on the out-of-fold predictions of what ships and write JSON, Markdown, plots and HELD_OUT.

    Temperature and bias first (negative log likelihood), then the threshold on the calibrated confidences:
    that of greatest balanced accuracy over all figures pooled, as the organisers score, so that large domains
    weigh more. HELD_OUT is a table for `amf evaluate`: each figure's confidence and class by the temperature,
    bias and threshold of the other domains.

    Raises
    ------
    DataError : a domain lacks a class.
    """
    predictions = lodo.predictions
    for domain, own in predictions.groupby("domain")["label"]:
        if own.nunique() < 2:
            raise DataError(f"{domain}: {own.sum()} of {len(own)} figures are AMF, expected both classes")

    logits, labels = predictions["logit"].to_numpy(np.float64), predictions["label"].to_numpy(np.int64)
    domains = predictions["domain"].to_numpy(object)
    temperature, bias = fit_scale_and_bias(logits, labels)
    before, after = expit(logits), expit(logits / temperature + bias)
    threshold = fit_threshold(predictions.assign(confidence=after))

    held_out, called = np.empty(len(logits)), np.empty(len(logits), np.int64)
    for domain in set(domains):
        inside, others = domains == domain, domains != domain
        their_temperature, their_bias = fit_scale_and_bias(logits[others], labels[others])
        calibrated = expit(logits / their_temperature + their_bias)
        held_out[inside] = calibrated[inside]
        their_threshold = fit_threshold(predictions.assign(confidence=calibrated)[others])
        called[inside] = calibrated[inside] >= their_threshold.value
    result = Calibration(
        temperature=temperature,
        bias=bias,
        threshold=threshold.value,
        interval=(threshold.low, threshold.high),
        ece={
            "before": _calibration_error(before, labels),
            "after": _calibration_error(after, labels),
            "held_out": _calibration_error(held_out, labels),
        },
        balanced_accuracy={
            "at_0.5": paper_metrics(before, labels)["BA"],
            "at_threshold": paper_metrics(after, labels, threshold.value)["BA"],
            "held_out": paper_metrics(called, labels)["BA"],
        },
        fitted_on=(
            f"{len(labels)} out-of-fold figures ({labels.sum()} AMF) of {len(set(domains))} domains, each "
            f"scored by networks that never saw its domain ({lodo.names}; table {lodo.table_hash[:12]})"
        ),
        members=[member.recipe.model_dump(mode="json") for member in lodo.members],
        table_hash=lodo.table_hash,
    )

    write_text(out / f"{CALIBRATION}.json", json.dumps(dataclasses.asdict(result), indent=1) + "\n")
    with written_whole(out / HELD_OUT) as partial:
        classes = np.array(CLASSES)[called]
        answers = predictions[["image", "slide", "domain", "label"]]
        answers.assign(**{"class": classes, "confidence": held_out}).to_csv(partial, index=False)
    with written_whole(out / f"{CALIBRATION}.md") as partial:
        costs = threshold_costs(predictions.assign(confidence=after), threshold.value)
        partial.write_text(calibration_report(result, costs), encoding="utf-8")
    draw_threshold_curve(after, labels, domains, threshold, out / "threshold-curve.png")
    draw_calibration(before, after, labels, out / "reliability.png")
    return result


def fit_scale_and_bias(logits: ArrayLike, labels: ArrayLike) -> tuple[float, float]:
    """Find the temperature T and the bias b of least negative log likelihood of sigmoid(logit / T + b).

    Platt scaling (Platt, Advances in Large Margin Classifiers, 1999; Guo et al., ICML 2017). Training that
    draws both classes equally often overstates P(atypical); only the bias can take that back. T is searched
    between 1/20 and 20, b between -20 and 20.

    Parameters
    ----------
    logits, labels : (N,), labels 0 or 1 (AMF).
    """
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)

    def loss_and_slope(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scale, bias = parameters
        shifted = scale * z + bias
        error = expit(shifted) - y
        slope = np.array([np.mean(error * z), np.mean(error)])
        return float(np.mean(np.logaddexp(0, shifted) - y * shifted)), slope

    bounds = [(1 / 20, 20), (-20, 20)]
    exact = {"ftol": 1e-15, "gtol": 1e-9}  # the default tolerance would stop at four digits
    found = minimize(loss_and_slope, [1.0, 0.0], jac=True, bounds=bounds, options=exact)
    scale, bias = found.x.tolist()
    return 1 / scale, bias


def threshold_costs(predictions: DataFrame, pooled: float) -> DataFrame:
    """What a threshold picked on one domain alone costs the figures of all the others.

    Parameters
    ----------
    predictions : domain, slide, label, confidence; pooled : the threshold of all domains together.

    Returns
    -------
    One row a domain: n, AMF, its threshold and interval, the BA of its own figures there, the BA of the
    others' figures there and at the pooled threshold, and the cost = the latter minus the former.
    """
    rows = {}
    for domain, own in predictions.groupby("domain"):
        others = predictions[predictions["domain"] != domain]
        picked = fit_threshold(own)
        there, together = (
            paper_metrics(others["confidence"], others["label"], cut)["BA"] for cut in (picked.value, pooled)
        )
        rows[domain] = {
            "n": len(own),
            "AMF": int(own["label"].sum()),
            "threshold": picked.value,
            "95 % interval": _interval(picked),
            "own BA there": paper_metrics(own["confidence"], own["label"], picked.value)["BA"],
            "others' BA there": there,
            "others' BA at the pooled threshold": together,
            "cost": together - there,
        }
    return DataFrame.from_dict(rows, orient="index")


def calibration_report(calibration: Calibration, costs: DataFrame) -> str:
    """The calibration as Markdown."""
    low, high = calibration.interval
    ece, accuracy = calibration.ece, calibration.balanced_accuracy
    return "\n".join(
        [
            f"Fitted on {calibration.fitted_on}.",
            "",
            f"- temperature {calibration.temperature:.4f}, bias {calibration.bias:+.4f}",
            f"- threshold {calibration.threshold:.4f} "
            f"(95 % of the resampled best cuts: {low:.3f} to {high:.3f})",
            f"- expected calibration error: before {ece['before']:.4f}, after {ece['after']:.4f}, "
            f"with each domain's temperature and bias from the others {ece['held_out']:.4f}",
            f"- balanced accuracy, all figures pooled: at 0.5 {accuracy['at_0.5']:.4f}, at the threshold "
            f"{accuracy['at_threshold']:.4f} (these figures chose it), with each domain's temperature, "
            f"bias and threshold from the others {accuracy['held_out']:.4f}",
            "",
            "A threshold picked on one domain, and what it would have cost on the others:",
            "",
            markdown(costs, "picked on"),
        ]
    )


def calibrate_bundle(calibration: Calibration, folder: Path) -> BundleSpec:
    """Write temperature, bias, threshold and their provenance into a bundle, and its model card anew.

    Raises
    ------
    BundleError : there is no sound bundle.
    DataError : its members are not the networks that the out-of-fold predictions are of.
    """
    spec = read_spec(folder)
    _check_same_networks(calibration, spec, folder)
    spec = dataclasses.replace(
        spec,
        temperature=calibration.temperature,
        bias=calibration.bias,
        threshold=calibration.threshold,
        fitted_on=calibration.fitted_on,
        provenance={**spec.provenance, "calibration": dataclasses.asdict(calibration)},
    )
    write_spec(folder, spec)
    write_text(folder / CARD, model_card(spec))
    return spec


def _check_same_networks(calibration: Calibration, spec: BundleSpec, folder: Path) -> None:
    """Compare all that decides a logit: table, recipes (weights, training, seed), each member's network."""
    provenance = spec.provenance
    table = provenance.get("data", {}).get("table")
    if table != calibration.table_hash:
        raise DataError(
            f"{folder} was trained on the table {str(table)[:12]}, "
            f"the predictions are of {calibration.table_hash[:12]}"
        )
    # Bundles of one member had its recipe under the key `recipe`.
    contents = provenance.get("members") or [provenance.get("recipe")]
    trained = [parse_recipe(content, f"{folder / FILE_NAME}, provenance") for content in contents]
    if len(trained) != len(spec.members):
        raise DataError(f"{folder} has {len(spec.members)} members and the recipes of {len(trained)}")
    scored = [parse_recipe(member, "the calibration") for member in calibration.members]
    if sorted(trained, key=member_name) != sorted(scored, key=member_name):
        names = ["; ".join(map(member_name, recipes)) for recipes in (trained, scored)]
        raise DataError(f"{folder} is of other recipes ({names[0]}) than the predictions ({names[1]})")
    for recipe, member in zip(trained, spec.members, strict=True):
        expected = member_spec(recipe.model)
        found = dataclasses.replace(member, weights=expected.weights, sha256=expected.sha256)
        for part in dataclasses.fields(found):
            if getattr(found, part.name) != getattr(expected, part.name):
                raise DataError(
                    f"{folder} has a member with {part.name} {getattr(found, part.name)}, "
                    f"the predictions are of {member_name(recipe)} with {getattr(expected, part.name)}"
                )


def _calibration_error(confidences: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(calibration_error(labels, confidences)["expected_calibration_error"])


def _interval(threshold: Threshold) -> str:
    return f"{threshold.low:.3f}–{threshold.high:.3f}"
