"""Bundles changed, forged, scored and refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from amf.errors import BundleError
from amf.inference.predict import Prediction, Predictor
from amf.model import bundle
from amf.model.digest import FILE_NAME, file_digest
from amf.model.spec import BundleSpec, MemberSpec, content_digest


def change(folder: Path, edit: Callable[[dict[str, Any]], None], resign: bool = True) -> None:
    """Edit bundle.json; with `resign` its digest is made to fit, as a careful forger would."""
    path = folder / FILE_NAME
    content = json.loads(path.read_text())
    edit(content)
    if resign:
        body = {k: v for k, v in content.items() if k not in ("format_version", "sha256")}
        content["sha256"] = content_digest(body)
    path.write_text(json.dumps(content))


def weights_of(folder: Path, member: int = 0) -> Path:
    """The file of a member's weights: its name tells its content."""
    return folder / bundle.read_spec(folder).members[member].weights


PAGES = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)


def scored(folder: Path) -> list[Prediction]:
    """What the bundle says of two pages: loading alone does not show that a bundle can be used."""
    return Predictor(bundle.load(folder), "cpu").predict(PAGES)


def confidences(folder: Path, patches: Sequence[NDArray[np.uint8]]) -> list[float]:
    """What the bundle says of patches that come alone, without a slide or a table."""
    predictions = Predictor(bundle.load(folder), "cpu").predict(np.stack(patches))
    return [prediction.confidence for prediction in predictions]


def refused(folder: Path) -> str:
    with pytest.raises(BundleError) as caught:
        scored(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def resave(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights and make the description fit them."""
    path = weights_of(folder)
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    edit(tensors)
    save_file(tensors, path)
    digest = file_digest(path)
    change(folder, lambda c: c["members"][0].update(sha256=digest))


Members = list[tuple[MemberSpec, dict[str, torch.Tensor]]]


def other_members(folder: Path, seed: int) -> Members:
    """The bundle's members with random weights."""
    generator = torch.Generator().manual_seed(seed)
    members = []
    for member in bundle.read_spec(folder).members:
        tensors = load_file(folder / member.weights)
        for name, tensor in tensors.items():
            tensors[name] = torch.rand(tensor.shape, generator=generator).to(tensor.dtype)
        members.append((member, tensors))
    return members


def rewrite(folder: Path, members: Members, name: str) -> None:
    specs, weights = zip(*members, strict=True)
    bundle.write(folder, BundleSpec(name, 1.0, 0.25, "", specs), weights)
