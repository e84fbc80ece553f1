"""The bundle: one folder that rebuilds its model from itself alone.

`bundle.json` describes; one safetensors file per member holds the weights. Nothing else is read, and
never a pickle. Every byte that matters is covered by a SHA-256: the weights' stand in `bundle.json`,
and `bundle.json` carries one over its own content.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from amf.errors import BundleError
from amf.files import write_text, written_whole
from amf.model.classifier import CLASSES, Classifier, HeadSpec
from amf.model.device import DTYPES
from amf.model.digest import file_digest
from amf.model.preprocess import ImageSpec

FORMAT_VERSION = 1
FILE_NAME = "bundle.json"


@dataclass(frozen=True)
class MemberSpec:
    """One network of the bundle.

    Attributes
    ----------
    backbone, arguments, head : what `classifier.Classifier` is built from.
    image : how a patch becomes its input.
    views : how many of the 8 symmetries of the square are scored and their logits averaged: 1 or 8.
    weights : file name inside the bundle; sha256 : of that file; dtype : of the stored tensors.
    """

    backbone: str
    arguments: Mapping[str, Any]
    head: HeadSpec
    image: ImageSpec
    views: int
    weights: str
    sha256: str
    dtype: str

    def __post_init__(self) -> None:
        if not isinstance(self.arguments, Mapping):
            raise ValueError(f"arguments is {self.arguments!r}, expected an object")
        if self.views not in (1, 8):
            raise ValueError(f"views is {self.views}, expected 1 or 8")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}, expected one of {', '.join(DTYPES)}")
        if Path(self.weights).name != self.weights or not self.weights.endswith(".safetensors"):
            raise ValueError(f"weights is {self.weights!r}, expected a plain *.safetensors file name")


@dataclass(frozen=True)
class BundleSpec:
    """The content of bundle.json.

    Attributes
    ----------
    temperature, bias, threshold : confidence = sigmoid(logit / temperature + bias) = P(atypical); a figure
        is atypical when its confidence is at least the threshold. Bundles without a bias have 0.
    fitted_on : on what data all three were fitted, in words.
    provenance : recipe, table hash, revision, versions, metrics: for people, not for the loader.
    """

    name: str
    temperature: float
    threshold: float
    fitted_on: str
    members: tuple[MemberSpec, ...]
    bias: float = 0.0
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("members is empty, expected at least one network")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature is {self.temperature}, expected a finite number above 0")
        if not math.isfinite(self.bias):
            raise ValueError(f"bias is {self.bias}, expected a finite number")
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold}, expected a number between 0 and 1")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its description and a ready classifier a member (CPU, evaluation mode)."""

    spec: BundleSpec
    members: tuple[Classifier, ...]


def read_spec(folder: Path) -> BundleSpec:
    """Read and check bundle.json alone.

    Raises
    ------
    BundleError : it is missing, damaged, of a newer format, or says something impossible.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} holds a {type(content).__name__}, expected an object")
    version = content.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise BundleError(f"{path} has format version {version!r}, expected {FORMAT_VERSION}")
    digest = content.pop("sha256", None)
    if digest != _content_digest(content):
        raise BundleError(f"{path} was changed after it was written: its content does not match its sha256")
    classes, positive = content.pop("classes", None), content.pop("positive_class", None)
    if classes != list(CLASSES) or positive != CLASSES[1]:
        raise BundleError(
            f"{path} has classes {classes} with positive {positive!r}, expected {list(CLASSES)}, 'atypical'"
        )
    try:
        members = tuple(
            _typed(MemberSpec, {**m, "head": _typed(HeadSpec, m["head"]), "image": _image_spec(m["image"])})
            for m in content.pop("members")
        )
        return _typed(BundleSpec, {**content, "members": members})
    except KeyError as error:
        raise BundleError(f"{path} lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise BundleError(f"{path}: {error}") from error


def load(folder: Path) -> Bundle:
    """Read a bundle and verify it: hashes, tensor names, shapes, types, finite values.

    Hashing may have begun already, in amf.model.digest, while torch was imported.

    The members are built without memory or random numbers and take the file's tensors as they are.

    Raises
    ------
    BundleError : anything is not as bundle.json says; the message names the file and the tensor.
    """
    spec = read_spec(folder)
    return Bundle(spec, tuple(_load_member(folder, member) for member in spec.members))


def _load_member(folder: Path, spec: MemberSpec) -> Classifier:
    path = folder / spec.weights
    try:
        with torch.device("meta"):
            model = Classifier(spec.backbone, spec.arguments, spec.head)
    except ValueError as error:
        raise BundleError(f"{folder / FILE_NAME}: {error}") from error
    try:
        tensors = load_file(path)
        digest = file_digest(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from error
    if digest != spec.sha256:
        raise BundleError(
            f"{path} has SHA-256 {digest[:12]}…, expected {spec.sha256[:12]}…: damaged or replaced"
        )
    _check_tensors(path, tensors, model, DTYPES[spec.dtype])
    model.load_state_dict(tensors, assign=True)
    fill_computed_buffers(model)
    return model.eval().requires_grad_(False)


def fill_computed_buffers(model: Classifier) -> None:
    """Compute the buffers that no file holds, such as rotary frequencies, absent from the meta device."""
    for module in model.modules():
        if any(buffer.is_meta for buffer in module.buffers(recurse=False)):
            module.to_empty(device="cpu", recurse=False)
            module.init_non_persistent_buffers()  # type: ignore[operator]


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], model: Classifier, dtype: torch.dtype) -> None:
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        detail = f"lacks {missing[0]}" if missing else f"holds {extra[0]}, which the network has not"
        raise BundleError(f"{path} {detail} ({len(missing)} tensors missing, {len(extra)} too many)")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise BundleError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            )
        if expected[name].is_floating_point():
            if tensor.dtype != dtype:
                raise BundleError(f"{path}: {name} is {tensor.dtype}, expected {dtype}")
            if not torch.isfinite(tensor.sum(dtype=torch.float32)):
                raise BundleError(f"{path}: {name} holds values that are not finite")


def write(
    folder: Path,
    members: Sequence[tuple[MemberSpec, Mapping[str, Tensor]]],
    *,
    name: str,
    temperature: float,
    bias: float,
    threshold: float,
    fitted_on: str,
    provenance: Mapping[str, Any],
) -> BundleSpec:
    """Write a bundle; each member's `weights`, `sha256` are filled in here, its tensors cast to its `dtype`.

    Weights are written first and bundle.json last, each to a temporary file that is renamed, so
    that a broken run never leaves a folder that looks like a bundle but is none.
    """
    written = []
    for index, (member, tensors) in enumerate(members):
        path = folder / f"member{index}.safetensors"
        stored = {key: _as_stored(tensor, DTYPES[member.dtype]) for key, tensor in tensors.items()}
        with written_whole(path) as partial:
            save_file(stored, partial)
            written.append(dataclasses.replace(member, weights=path.name, sha256=file_digest(partial)))
    spec = BundleSpec(name, temperature, threshold, fitted_on, tuple(written), bias, provenance)
    write_spec(folder, spec)
    return spec


def write_spec(folder: Path, spec: BundleSpec) -> None:
    """Write bundle.json alone, as calibration does, with its digest; atomic."""
    content = {**dataclasses.asdict(spec), "classes": list(CLASSES), "positive_class": CLASSES[1]}
    content = json.loads(json.dumps(content))
    content = {"format_version": FORMAT_VERSION, "sha256": _content_digest(content), **content}
    write_text(folder / FILE_NAME, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _as_stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()


def _content_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _image_spec(mapping: Mapping[str, Any]) -> ImageSpec:
    triples = {key: tuple(mapping[key]) for key in ("mean", "std")}
    return _typed(ImageSpec, {**mapping, **triples})


def _typed(cls: Any, mapping: Mapping[str, Any]) -> Any:
    """Build a dataclass from a mapping, refusing unknown keys and values of another type by name."""
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{cls.__name__} is {mapping!r}, expected an object")
    known = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(mapping.keys() - known.keys()):
        raise ValueError(f"unknown key {unknown[0]!r}, expected only {', '.join(known)}")
    for key, value in mapping.items():
        wanted = known[key].type
        numeric = wanted is float and isinstance(value, int | float) and not isinstance(value, bool)
        plain = wanted in (int, str) and type(value) is wanted
        if wanted in (int, float, str) and not (numeric or plain):
            raise ValueError(f"{key} is {value!r}, expected {wanted.__name__}")
    return cls(**mapping)
