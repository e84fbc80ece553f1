"""What bundle.json says: the members, how their logit becomes an answer, and where all of it came from."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from amf.model.classifier import CLASSES, HeadSpec
from amf.model.device import DTYPES
from amf.model.preprocess import ImageSpec

FORMAT_VERSION = 1
VIEWS = (1, 2, 4, 8)
WEIGHTS_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.safetensors")


@dataclass(frozen=True)
class MemberSpec:
    """One network of the bundle.

    Attributes
    ----------
    backbone, arguments, head : what `classifier.Classifier` is built from.
    image : how a patch becomes its input.
    views : how many of the 8 symmetries of the square are scored and their logits averaged: one of VIEWS.
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
        if self.views not in VIEWS:
            raise ValueError(f"views is {self.views}, expected one of {', '.join(map(str, VIEWS))}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}, expected one of {', '.join(DTYPES)}")
        if not WEIGHTS_NAME.fullmatch(self.weights):
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


def parse(text: bytes, signed: bool = True) -> BundleSpec:
    """Check the content of bundle.json, its own digest only where it must be `signed`.

    Raises
    ------
    ValueError : it is not JSON, was changed after it was written, is of another format, or says something
        impossible; in words that follow the file's name.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"holds a {type(content).__name__}, expected an object")
    if (version := content.pop("format_version", None)) != FORMAT_VERSION:
        raise ValueError(f"has format version {version!r}, expected {FORMAT_VERSION}")
    digest = content.pop("sha256", None)
    if signed and digest != content_digest(content):
        raise ValueError(
            "was changed after it was written: its content does not match its sha256 (`amf calibrate BUNDLE "
            "--threshold X` sets a threshold)"
        )
    classes, positive = content.pop("classes", None), content.pop("positive_class", None)
    if classes != list(CLASSES) or positive != CLASSES[1]:
        raise ValueError(
            f"has classes {classes!r} with positive {positive!r}, expected {list(CLASSES)}, '{CLASSES[1]}'"
        )
    try:
        members = tuple(_member(**member) for member in content.pop("members"))
        return BundleSpec(members=members, **content)
    except KeyError as error:
        raise ValueError(f"lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"is not a bundle's description: {error}") from error


def _member(head: Mapping[str, Any], image: Mapping[str, Any], **others: Any) -> MemberSpec:
    """One member from its JSON object."""
    mean, std = tuple(image["mean"]), tuple(image["std"])
    return MemberSpec(head=HeadSpec(**head), image=ImageSpec(**{**image, "mean": mean, "std": std}), **others)


def serialise(spec: BundleSpec) -> str:
    """The text of bundle.json, with the digest of its own content; a metric that is not a number is null."""
    content = {**dataclasses.asdict(spec), "classes": list(CLASSES), "positive_class": CLASSES[1]}
    content = json.loads(json.dumps(content), parse_constant=lambda name: None)
    signed = {"format_version": FORMAT_VERSION, "sha256": content_digest(content), **content}
    return json.dumps(signed, indent=2) + "\n"


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of a bundle's description, without version and digest, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
