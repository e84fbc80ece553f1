"""The bundle: one folder that rebuilds its model from itself alone.

`bundle.json` describes; one safetensors file per member holds the weights. Nothing else is read, and
never a pickle. Every byte that matters is covered by a SHA-256: those of the weights are in
`bundle.json`, which also holds one over its own content.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from amf.errors import BundleError
from amf.files import write_text, written_whole
from amf.model import spec as description
from amf.model.classifier import Classifier
from amf.model.device import DTYPES, float_dtype
from amf.model.digest import FILE_NAME, file_digest
from amf.model.int8 import SCALE, store_as_int8
from amf.model.spec import BundleSpec, MemberSpec

LARGE = 1 << 20
"""Values of a tensor that is worth a mapping of its own."""

OUR_WEIGHTS = re.compile(r"member\d+(\.new|(-[0-9a-f]{12})?\.safetensors)|\.member\d+\.new\..*\.partial")
"""Names that `write` gives: today's, those of earlier versions, and what a killed one leaves."""


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: its description and a ready classifier a member (CPU, evaluation mode)."""

    spec: BundleSpec
    members: tuple[Classifier, ...]

    def narrowed(self, members: int | None = None, views: int | None = None) -> "Bundle":
        """The first members alone, each scored in at most so many views: quicker, and less accurate.

        A member keeps the views it ships with where it has fewer: a symmetric network gains nothing by more.
        Temperature, bias and threshold stay those of the whole bundle.

        Raises
        ------
        BundleError : it has fewer members.
        """
        count = len(self.members) if members is None else members
        if not 1 <= count <= len(self.members):
            raise BundleError(
                f"bundle {self.spec.name} has {len(self.members)} members, of which {count} cannot be taken"
            )
        specs = [
            dataclasses.replace(spec, views=min(spec.views, views or spec.views))
            for spec in self.spec.members[:count]
        ]
        return Bundle(dataclasses.replace(self.spec, members=tuple(specs)), self.members[:count])


def read_spec(folder: Path, signed: bool = True) -> BundleSpec:
    """Read and check bundle.json alone; one that was edited by hand is taken where it need not be `signed`.

    Raises
    ------
    BundleError : it is missing, damaged, of a newer format, or says something impossible.
    """
    path = folder / FILE_NAME
    try:
        return description.parse(path.read_bytes(), signed)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{path} {error}") from error


def load(folder: Path) -> Bundle:
    """Read a bundle and verify it: hashes, tensor names, shapes, types.

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
            model = Classifier(spec.backbone, spec.arguments, spec.head, to_serve=True)
            if spec.dtype == "int8":
                store_as_int8(model.backbone)
    except ValueError as error:
        raise BundleError(f"{folder / FILE_NAME}: {error}") from error
    try:
        if (digest := file_digest(path)) != spec.sha256:
            raise BundleError(
                f"{path} has SHA-256 {digest[:12]}…, expected {spec.sha256[:12]}…: damaged or replaced"
            )
        tensors = _read_tensors(path)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise BundleError(f"{path} is not a safetensors file: {error}") from error
    _check_tensors(path, tensors, model, DTYPES[spec.dtype])
    model.load_state_dict(tensors, assign=True)
    try:
        fill_computed_buffers(model)
    except ValueError as error:
        raise BundleError(f"{folder / FILE_NAME}: {error}") from error
    return model.eval().requires_grad_(False)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors; large ones are not read, but mapped, each by itself.

    Each one's pages leave memory as soon as something takes its place, as packed weights do: a single mapping
    would stay in memory whole beside them.
    """
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        large = [name for name, shape in shapes.items() if math.prod(shape) >= LARGE]
        tensors = {name: file.get_tensor(name).clone() for name in shapes if name not in large}
    for name in large:
        with safe_open(path, "pt") as file:
            tensors[name] = file.get_tensor(name)
    return tensors


def fill_computed_buffers(model: Classifier) -> None:
    """Compute the buffers that no file holds, such as rotary frequencies, which the meta device leaves empty.

    Raises
    ------
    ValueError : a module has such buffers and does not say how they are computed.
    """
    for module in model.modules():
        empty = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
        if empty and not hasattr(module, "init_non_persistent_buffers"):
            raise ValueError(f"the network's {type(module).__name__} has buffers that cannot be computed")
        for name, buffer in empty.items():
            setattr(module, name, torch.empty_like(buffer, device="cpu"))
        if empty:
            module.init_non_persistent_buffers()  # type: ignore[operator]


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], model: Classifier, dtype: torch.dtype) -> None:
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        detail = f"lacks {missing[0]}" if missing else f"holds {extra[0]}, which the network lacks"
        raise BundleError(f"{path} {detail} ({len(missing)} tensors missing, {len(extra)} too many)")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise BundleError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            )
        wanted = stored_dtype(name, expected[name], dtype)
        if tensor.dtype != wanted:
            raise BundleError(f"{path}: {name} is {tensor.dtype}, expected {wanted}")


def stored_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The type in which a bundle of `dtype` stores a network's tensor of a name."""
    if not tensor.is_floating_point():
        return tensor.dtype
    return torch.float32 if name.endswith(SCALE) else float_dtype(dtype)


def write(folder: Path, spec: BundleSpec, weights: Sequence[Mapping[str, Tensor]]) -> BundleSpec:
    """Write a bundle and return its description, the members' `weights` and `sha256` filled in.

    Weights are named by their content and written beside those of an earlier bundle, which go when
    bundle.json has been renamed: killed at any moment, this leaves the earlier bundle or the new one.

    Parameters
    ----------
    weights : each member's tensors by name, which are cast to its `dtype`.

    Raises
    ------
    BundleError : the folder cannot be written to; an earlier bundle in it is as it was.
    """
    written = []
    try:
        for index, (member, tensors) in enumerate(zip(spec.members, weights, strict=True)):
            stored = {
                key: tensor.detach().cpu().to(stored_dtype(key, tensor, DTYPES[member.dtype])).contiguous()
                for key, tensor in tensors.items()
            }
            unnamed = folder / f"member{index}.new"
            with written_whole(unnamed, BundleError) as partial:
                save_file(stored, partial)
                digest = file_digest(partial)
            path = unnamed.rename(folder / f"member{index}-{digest[:12]}.safetensors")
            written.append(dataclasses.replace(member, weights=path.name, sha256=digest))
        spec = dataclasses.replace(spec, members=tuple(written))
        write_spec(folder, spec)
        for path in folder.iterdir():
            if OUR_WEIGHTS.fullmatch(path.name) and path.name not in {member.weights for member in written}:
                path.unlink()
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{folder} cannot be written: {error}") from error
    return spec


def write_spec(folder: Path, spec: BundleSpec) -> None:
    """Write bundle.json alone, as calibration does, with its digest; atomic."""
    write_text(folder / FILE_NAME, description.serialise(spec), BundleError)
