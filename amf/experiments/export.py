"""Finished runs → one bundle: adapters merged in float32, cast to the storage type, provenance attached."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from amf.errors import DataError
from amf.experiments.card import write_card
from amf.experiments.int8 import as_int8
from amf.experiments.record import versions
from amf.model.bundle import write
from amf.model.classifier import Classifier
from amf.model.spec import BundleSpec, MemberSpec
from amf.training.learner import BEST
from amf.training.network import build_classifier, merge_adapters, trainable_state
from amf.training.recipe import Recipe, read_recipe
from amf.training.tied_weights import untie


def trained_classifier(run: Path) -> tuple[Recipe, Classifier]:
    """Rebuild a run's network with its best weights, in float32 and evaluation mode.

    Adapters are still apart; weights that were tied are no longer.

    Raises
    ------
    DataError : the run has no best weights, or they are not of its recipe's network.
    """
    recipe = read_recipe(run / "recipe.yaml")
    if not (run / BEST).is_file():
        raise DataError(f"{run / BEST} is not there: the run has not finished an epoch")
    classifier = build_classifier(recipe.model, recipe.optimise.seed)
    learnt = load_file(run / BEST)
    expected = trainable_state(classifier)
    if learnt.keys() != expected.keys() or any(learnt[k].shape != expected[k].shape for k in learnt):
        raise DataError(
            f"{run / BEST} does not hold the weights of the network that {run / 'recipe.yaml'} names"
        )
    classifier.load_state_dict(learnt, strict=False)
    if recipe.model.symmetric:
        untie(classifier)
    return recipe, classifier.eval()


def member_of(run: Path) -> tuple[MemberSpec, Mapping[str, Tensor]]:
    """One run as a bundle's member: its description, and its weights with the adapters merged in."""
    recipe, classifier = trained_classifier(run)
    model = recipe.model
    if model.lora:
        merge_adapters(classifier.backbone)
    spec = MemberSpec(
        backbone=model.backbone,
        arguments=model.arguments,
        head=model.head,
        image=model.image,
        views=model.views,
        weights="named-when-written.safetensors",
        sha256="",
        dtype=model.storage,
    )
    return spec, classifier.state_dict()


def export(
    runs: Sequence[Path],
    target: Path,
    *,
    name: str,
    temperature: float,
    bias: float,
    threshold: float,
    fitted_on: str,
    record: Mapping[str, Any],
    patches: NDArray[np.uint8] | None = None,
) -> BundleSpec:
    """Write the bundle of one or several runs and its model card.

    `record` holds summary, data, metrics and made_with (see `card`); the versions are added here, and for
    int8 members a report on what that does to the answers for `patches`, (N, 128, 128, 3) uint8 real ones.

    Raises
    ------
    DataError : a member is to be stored as int8, and there are no patches, or answers would change too much.
    """
    made_with = {**record.get("made_with", {}), **versions()}
    provenance = {**record, "made_with": made_with}
    members = [member_of(run) for run in runs]
    specs, weights = tuple(spec for spec, _ in members), [tensors for _, tensors in members]
    spec = BundleSpec(name, temperature, threshold, fitted_on, specs, bias, provenance)
    if any(member.dtype == "int8" for member in specs):
        if patches is None:
            raise DataError("storage is int8, which is checked on real patches, and there are none")
        weights, provenance["int8"] = as_int8(spec, weights, patches)
        made_with["int8 against float32"] = "; ".join(f"{k} {v:.5g}" for k, v in provenance["int8"].items())
    spec = write(target, spec, weights)
    write_card(target, spec)
    return spec
