"""Before a long run: is everything there, does it fit, and how long will it take? One row a question."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from amf.data.figures import Figures
from amf.data.repositories import DATASETS
from amf.errors import AmfError, DataError, RecipeError
from amf.model import backbones
from amf.model.backbones import BACKBONES
from amf.model.device import choose_device, compute_dtype
from amf.training.loop import fit
from amf.training.memory import count_memory
from amf.training.pretrained import check_weights, weights_file
from amf.training.recipe import Recipe, override

MEASURED_STEPS = 10
LARGE = 100_000_000
"""Parameters from which on ten steps without a GPU would take the better part of an hour."""
COLUMN = 64
"""Characters that a column of the table is wide at most; a longer sentence goes on beyond."""
PATCH_BYTES = 128 * 128 * 3
SCORING = 1 / 3
"""Cost of scoring a patch against training on it: a forward pass of the three that a step is worth."""


@dataclass(frozen=True)
class Check:
    """One row of the table: the question, of what, the answer, what is needed, whether that is enough."""

    question: str
    of: str
    found: str
    needed: str
    ok: bool


def as_table(checks: Iterable[Check]) -> str:
    """The checks as text, a row each, and the verdict below them."""
    rows = [("", "question", "of", "found", "needed")]
    checks = list(checks)
    rows += [("ok" if c.ok else "NO", c.question, c.of, c.found, c.needed) for c in checks]
    widths = [min(COLUMN, max(len(row[column]) for row in rows)) for column in range(4)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    missing = sum(not check.ok for check in checks)
    verdict = f"not ready: {missing} of {len(checks)} answers are no" if missing else "ready"
    return "\n".join([*lines, verdict])


def refuse(checks: Iterable[Check]) -> None:
    """Raise the first answer that is no as one sentence, and say how many more there are.

    Raises
    ------
    RecipeError : an answer is no.
    """
    missing = [check for check in checks if not check.ok]
    if missing:
        first, more = missing[0], len(missing) - 1
        also = f" (and {more} more)" if more else ""
        raise RecipeError(
            f"not ready: {first.question} of {first.of}: {first.found}, needed {first.needed}{also}"
        )


def check_recipe(recipe: Recipe, domains: int) -> list[Check]:
    """What can be asked of a recipe without reading its weights: they, their input, and the memory."""
    return [check_source(recipe), check_input(recipe), check_memory(recipe, domains)]


def check_before_run(recipes: Iterable[Recipe], domains: int) -> None:
    """Refuse a long run that cannot end well: each network of these recipes is asked about once.

    Raises
    ------
    RecipeError : weights are absent or of another network, the input does not fit them, or memory is short.
    """
    networks = {(recipe.model.model_dump_json(), recipe.optimise.batch): recipe for recipe in recipes}
    refuse(check for recipe in networks.values() for check in check_recipe(recipe, domains))


def check_source(recipe: Recipe) -> Check:
    """Are the weights at hand and of this network, or would the hub give them to us?"""
    model, entry = recipe.model, BACKBONES[recipe.model.backbone]
    question, needed = "weights", f"those of {model.backbone}"
    if model.weights == "random":
        return Check(question, recipe.name, "random, drawn from the seed", "none", True)
    try:
        if model.weights != "hub" or entry.hub is None:
            path = weights_file(model.backbone, model.weights)
        else:
            cached = _cached(entry.hub, entry.checkpoint)
            if cached is None:
                return _check_gate(recipe, question, needed)
            path = cached
        with torch.device("meta"):
            backbone = backbones.build(model.backbone, model.arguments)
        check_weights(backbone, model.backbone, model.weights, path)
    except (AmfError, ValueError) as error:
        return Check(question, recipe.name, str(error), needed, False)
    size = f"{path.stat().st_size / 1e9:.2f} GB"
    return Check(question, recipe.name, f"{path.name}, {size}, names and shapes as expected", needed, True)


def _cached(hub: str, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(hub, name)
    return Path(path) if isinstance(path, str) else None


def _check_gate(recipe: Recipe, question: str, needed: str) -> Check:
    """Ask the hub for the weights' size, and for the name of their network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    entry = BACKBONES[recipe.model.backbone]
    hub = str(entry.hub)
    try:
        size = get_hf_file_metadata(hf_hub_url(hub, entry.checkpoint)).size or 0
        try:
            config = json.loads(Path(hf_hub_download(hub, "config.json")).read_text(encoding="utf-8"))
        except EntryNotFoundError:
            config = {}
    except GatedRepoError:
        found = (
            f"the gate of {hub} is closed for this token: accept its licence ({entry.licence}) there, log in"
        )
        return Check(question, recipe.name, found, needed, False)
    except RepositoryNotFoundError:
        found = f"{hub} is hidden from this token: log in with `hf auth login`"
        return Check(question, recipe.name, found, needed, False)
    except Exception as error:  # offline, a proxy, a hub that is down: there is no one exception for it
        return Check(question, recipe.name, f"{hub} is out of reach ({type(error).__name__})", needed, False)
    network = {**entry.arguments, **recipe.model.arguments}.get("model_name")
    if config.get("architecture", network) != network:
        found = f"{hub} holds {config['architecture']}"
        return Check(question, recipe.name, found, f"{network}", False)
    return Check(
        question, recipe.name, f"the hub gives {entry.checkpoint}, {size / 1e9:.2f} GB", needed, True
    )


def check_input(recipe: Recipe) -> Check:
    """Does the network's patch size divide the input, and is the input the size it was built for?"""
    side, name = recipe.model.image.input_px, recipe.name
    try:
        with torch.device("meta"):
            backbone = backbones.build(recipe.model.backbone, recipe.model.arguments)
    except ValueError as error:
        return Check("input", name, str(error), "a network", False)
    embed = getattr(getattr(backbone, "model", None), "patch_embed", None)
    if embed is None or not hasattr(embed, "patch_size"):
        return Check("input", name, f"{side} px", "any", True)
    patch, expected = embed.patch_size[0], (embed.img_size or (side,))[0]
    if getattr(embed, "strict_img_size", True):
        return Check("input", name, f"{side} px", f"{expected} px, in patches of {patch}", side == expected)
    return Check("input", name, f"{side} px", f"a multiple of {patch} px", side % patch == 0)


def check_memory(recipe: Recipe, domains: int) -> Check:
    """Will weights, optimiser and one step's activations fit the device, by their counted bytes?"""
    device, optimise = choose_device("auto"), recipe.optimise
    automatic = compute_dtype(torch.bfloat16, device)
    element = 4 if optimise.precision == "float32" else automatic.itemsize
    share = optimise.batch // (int(os.environ.get("WORLD_SIZE", "1")) * optimise.accumulate)
    try:
        memory = count_memory(recipe, domains, share, element)
    except AmfError as error:
        return Check("memory", recipe.name, str(error), "a network", False)
    if device.type == "cuda":
        limit, where = torch.cuda.get_device_properties(device).total_memory, "this GPU"
    else:
        limit, where = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "no GPU; memory"
    fits = memory.total <= limit and (device.type == "cuda" or memory.parameters < LARGE)
    needed = f"{memory.total / 1e9:.1f} GB for {share} patches a step"
    if memory.parameters >= LARGE and device.type != "cuda":
        needed = f"a GPU with {needed}"
    return Check("memory", recipe.name, f"{where} {limit / 1e9:.1f} GB", needed, fits)


def check_download(name: str, root: Path) -> tuple[Check, int]:
    """Is a data set there, or would its repository give it; and how many bytes are to come?"""
    dataset = DATASETS[name]
    if all((root / place).exists() for place in dataset.places):
        return Check("data", name, "there", "all of it", True), 0
    try:
        records = dataset.records()
    except DataError as error:
        return Check("data", name, str(error), "its repository's record", False), 0
    size = sum(record.size for record in records)
    licences = ", ".join(record.licence for record in records)
    return Check("data", name, f"{size / 1e9:.2f} GB to come, licence {licences}", "its record", True), size


def check_disk(folder: Path, needed: int) -> Check:
    """Is there room for the downloads, what is unpacked, the packed patches and the runs?"""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    return Check("disk", str(folder), f"{free / 1e9:.1f} GB free", f"{needed / 1e9:.1f} GB", needed <= free)


def run_bytes(recipe: Recipe, domains: int) -> int:
    """What a run leaves: its best weights, and a checkpoint of what is learnt with its two moments."""
    try:
        memory = count_memory(recipe, domains, 1, 4)
    except AmfError:
        return 0
    return memory.learnt + memory.learnt // 4


def measure_rate(recipe: Recipe) -> float:
    """Patches a second of training, by ten real steps on drawn pixels, their warm-up included.

    Raises
    ------
    RecipeError : the weights are not at hand.
    """
    batch = recipe.optimise.batch
    rows = batch * MEASURED_STEPS + 8
    generator = np.random.default_rng(0)
    label = (np.arange(rows) % 2).astype(np.float32)
    figures = Figures(
        table=pd.DataFrame({"image": [str(row) for row in range(rows)]}),
        table_hash="drawn pixels",
        patches=generator.integers(0, 256, (rows, 128, 128, 3), dtype=np.uint8),
        label=label,
        soft_label=label,
        domain=np.arange(rows, dtype=np.int64) // 2 % 2,
        domains=("a", "b"),
    )
    short = override(recipe, {"optimise.epochs": 1, "sampling.hard_mining": False})
    order = np.arange(rows, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        outcome = fit(short, figures, order[8:], order[:8], Path(folder))
    return outcome.history[0]["patches_per_s"]


def hours(recipe: Recipe, rate: float, runs: Iterable[tuple[int, int]], epochs: int | None = None) -> float:
    """Upper bound of some runs' hours: all epochs are run, a mining pass scores every figure once more.

    Parameters
    ----------
    runs : (figures to train on, figures to score at the end), one a run.
    """
    once = 1 + (SCORING if recipe.sampling.hard_mining else 0)
    length = epochs or recipe.optimise.epochs
    patches = sum(train * once * length + held_out * SCORING for train, held_out in runs)
    return patches / rate / 3600


def check_hours(recipes: Mapping[str, tuple[Recipe, list[tuple[int, int]]]]) -> list[Check]:
    """How long each stage will take, by the rate of ten steps of its network; a rate is measured once."""
    rates: dict[str, float] = {}
    checks, total = [], 0.0
    for stage, (recipe, runs) in recipes.items():
        key = json.dumps([recipe.model.model_dump(mode="json"), recipe.optimise.batch, recipe.augmentation])
        if key not in rates:
            rates[key] = measure_rate(recipe)
        spent = hours(recipe, rates[key], runs)
        total += spent
        found = f"{spent:.2f} h: {len(runs)} runs at {rates[key]:.0f} patches/s"
        checks.append(Check("hours", stage, found, "at most", True))
    return [*checks, Check("hours", "all stages", f"{total:.2f} h", "at most", True)] if checks else []
