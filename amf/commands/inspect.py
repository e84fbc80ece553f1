"""`amf inspect`: what is in a bundle, verified as for a job."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument

if TYPE_CHECKING:
    from amf.model.bundle import Bundle
    from amf.model.classifier import Classifier
    from amf.model.spec import MemberSpec


def run(model: Annotated[Path, Argument(help="folder of the bundle")]) -> None:
    """Load a bundle, which verifies it, and print its content."""
    from amf.model import bundle

    print("\n".join(describe(model, bundle.load(model))))


def describe(folder: Path, loaded: "Bundle") -> Iterator[str]:
    """The lines of the description of a bundle that loading has verified."""
    from amf.model.classifier import CLASSES
    from amf.model.spec import FORMAT_VERSION

    spec = loaded.spec
    yield f"bundle       {spec.name} ({folder}), format {FORMAT_VERSION}, hashes and tensors verified"
    yield f"classes      {', '.join(CLASSES)}; confidence is P({CLASSES[1]})"
    calibration = f"temperature {spec.temperature:.6g}, bias {spec.bias:.6g}"
    yield f"decision     {calibration}, threshold {spec.threshold:.6g}"
    yield f"fitted on    {spec.fitted_on}"
    for number, (member, model) in enumerate(zip(spec.members, loaded.members, strict=True), start=1):
        yield f"member {number} of {len(spec.members)}"
        yield from (f"  {line}" for line in _describe_member(folder, member, model))
    yield from _describe_tree("provenance", spec.provenance)


def _describe_member(folder: Path, member: "MemberSpec", model: "Classifier") -> Iterator[str]:
    parameters = sum(tensor.numel() for tensor in model.parameters())
    image = member.image
    arguments = ", ".join(f"{key}={value}" for key, value in member.arguments.items()) or "defaults"
    hidden = f"{member.head.hidden} hidden units" if member.head.hidden else "linear"
    yield f"backbone   {member.backbone} ({arguments}), {parameters:,} parameters with the head"
    yield f"head       {hidden}, embedding of {model.embedding_size}"
    yield f"image      centre {image.field_of_view_px} px to {image.input_px} px, {image.interpolation}"
    yield f"           mean {image.mean}, std {image.std}"
    yield f"views      {member.views} of the 8 symmetries of the square"
    size_mb = (folder / member.weights).stat().st_size / 1e6
    yield f"weights    {member.weights}, {size_mb:.1f} MB, {member.dtype}, SHA-256 {member.sha256}"


def _describe_tree(name: str, value: Any, indent: str = "") -> Iterator[str]:
    """A nested mapping or list, one line a value."""
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        value = dict(enumerate(value, start=1))
    if isinstance(value, Mapping):
        yield f"{indent}{name}"
        for key, inner in value.items():
            yield from _describe_tree(str(key), inner, indent + "  ")
    else:
        yield f"{indent}{name}: {f'{value:.6g}' if isinstance(value, float) else value}"
