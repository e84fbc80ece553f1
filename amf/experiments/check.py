"""Before a long run: are recipes, weights, licences, disk and GPU as it needs them? One answer a question."""

import shutil
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import nn

from amf.data.figures import Figures
from amf.data.repositories import dataset
from amf.errors import AmfError, DataError, RecipeError
from amf.model.backbones import BACKBONES
from amf.training.loop import fit
from amf.training.network import freeze, fuse_norms, without_weights
from amf.training.pretrained import check_weights, weights_file
from amf.training.recipe import Model, Recipe, override

STEPS = 10
MINING = 1 / 3
"""Cost of scoring a figure for hard mining, in figures trained on: a forward pass of the three of a step."""


@dataclass(frozen=True)
class Answer:
    """What was asked about, the answer, whether a run can start with it, and bytes still to be fetched."""

    of: str
    found: str
    ok: bool = True
    to_come: int = 0

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'NO'}  {self.of}: {self.found}"


def check_recipe(recipe: Recipe) -> Answer:
    """Can the network be built and fed, and are its weights at hand, or given by the hub?"""
    model, side, of = recipe.model, recipe.model.image.input_px, f"recipe {recipe.name}"
    if model.weights not in ("random", "imagenet"):
        fuse_norms(False)  # an earlier run's choice would stay, and the meta device cannot run it
    try:  # published weights are looked for alone: the meta device holds no data
        with torch.device("cpu" if model.weights == "random" else "meta"), torch.no_grad():
            classifier = without_weights(model).eval()
            found, to_come = _look_for_weights(model, classifier.backbone)
            freeze(classifier, model)
            classifier(torch.zeros(2, 3, side, side))
    except (AmfError, AssertionError, RuntimeError) as error:  # timm asserts the size of its input
        return Answer(of, str(error), ok=False)
    return Answer(of, f"{model.backbone} at {side} px, {found}", to_come=to_come)


def _look_for_weights(model: Model, backbone: nn.Module) -> tuple[str, int]:
    """Where a recipe's weights are, in words, and the bytes that the hub is still to send."""
    from huggingface_hub import auth_check, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError

    if model.weights == "random":
        return "random weights", 0
    hub, file, licence = (getattr(BACKBONES[model.backbone], key) for key in ("hub", "checkpoint", "licence"))
    if model.weights != "hub" or hub is None or isinstance(try_to_load_from_cache(hub, file), str):
        path = weights_file(model.backbone, model.weights)
        check_weights(backbone, model.backbone, model.weights, path)
        return f"{path.name} holds its weights", 0
    try:
        auth_check(hub)
        size = get_hf_file_metadata(hf_hub_url(hub, file)).size or 0
    except GatedRepoError as error:
        raise RecipeError(
            f"the gate of {hub} is closed for this token: accept its licence ({licence}) at "
            f"https://huggingface.co/{hub} and log in by `hf auth login`"
        ) from error
    except Exception as error:  # offline, no such repository, no such file
        raise RecipeError(f"{hub} does not answer: {type(error).__name__}") from error
    return f"{size / 1e9:.2f} GB of weights to come from {hub}, licence {licence}", size


def check_data_set(name: str, root: Path) -> Answer:
    """Is a data set below `root`, or what would its repository send, and under which licence?"""
    wanted, of = dataset(name), f"data {name}"
    if all((root / place).exists() for place in wanted.places):
        return Answer(of, f"in {root}")
    try:
        records = wanted.records()
    except DataError as error:
        return Answer(of, str(error), ok=False)
    size, licences = sum(record.size for record in records), ", ".join(record.licence for record in records)
    # twice: an archive, and what is unpacked from it
    return Answer(of, f"{size / 1e9:.2f} GB to come, licence {licences}", to_come=2 * size)


def check_disk(folder: Path, to_come: int) -> Answer:
    """Is there room for what is still to be fetched?"""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 1e9:.1f} GB free, the downloads need {to_come / 1e9:.1f} GB"
    return Answer(f"disk of {folder}", found, ok=to_come <= free)


def check_gpu(recipe: Recipe, figures: Figures, runs: int) -> Answer:
    """Peak memory and rate of ten real steps on this GPU; from the rate, the hours of all epochs at most."""
    of = f"GPU for {recipe.name}"
    if not torch.cuda.is_available():
        return Answer(of, "none here: memory and hours cannot be told")
    memory = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.reset_peak_memory_stats()
    try:
        rate = measure_rate(recipe, figures)
    except torch.cuda.OutOfMemoryError:
        found = f"its {memory / 1e9:.1f} GB do not hold a step of {recipe.optimise.batch} figures"
        return Answer(of, found, ok=False)
    seen = runs * recipe.optimise.epochs * len(figures.table) * (1 + MINING * recipe.sampling.hard_mining)
    found = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} of {memory / 1e9:.1f} GB, {rate:.0f} figures/s"
    return Answer(of, f"{found}: at most {seen / rate / 3600:.1f} h for {runs} runs")


def measure_rate(recipe: Recipe, figures: Figures) -> float:
    """Figures a second of ten real training steps, their warm-up included."""
    short = override(recipe, {"optimise.epochs": 1, "sampling.hard_mining": False})
    rows = np.sort(np.random.default_rng(0).permutation(len(figures.table))[: recipe.optimise.batch * STEPS])
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        return fit(short, figures, rows, rows, Path(folder)).history[0]["patches_per_s"]
