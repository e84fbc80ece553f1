"""Training speed: our loop against the plain script style, and against the device's own matrix rate.

    python -m bench.train [vit] [compact] [--data FOLDER] [--rounds 3]

`vit`: LoRA training at 224 px. On a CUDA GPU the full-size ViT-g/14 (H-optimus-0's architecture, random
weights) in bf16 with batches of 64, once for each share of blocks that recompute their activations; on a CPU
a small ViT of the same family. The plain style is what a first script does: float32, batches of 8, PNG files
decoded in a DataLoader, one patch at a time turned, coloured and resized on the CPU, PEFT's own layers. The
two run in alternation; medians and ratios are printed. The rate counts 4 · parameters · tokens operations an
image (forward, and backward to the activations) and is held against a measured bf16 matrix product.

`compact`: recipes/compact.yaml end to end at 64 px on the CPU, and what share of the time waits for batches.

Patches are drawn unless --data names a folder that `amf data` wrote.
"""

import argparse
import gc
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageEnhance
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from amf.data.figures import Figures, open_figures
from amf.model.classifier import Classifier
from amf.model.torchvision_shim import ensure_torchvision
from amf.training.batches import Task
from amf.training.learner import Learner, accelerator_for
from amf.training.loop import train_epoch
from amf.training.recipe import Recipe, override, read_recipe
from bench.rates import matrix_rate

ROOT = Path(__file__).resolve().parent.parent
CUDA = torch.cuda.is_available()
SMALL = {"depth": 6, "embed_dim": 192, "num_heads": 3}
BATCH, STEPS = (64, 12) if CUDA else (16, 3)
PLAIN_BATCH, PLAIN_STEPS = 8, 24 if CUDA else 4
SHARES = (0.5, 0.25, 0.0) if CUDA else (0.0,)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=["vit", "compact"], default=["vit", "compact"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    device = torch.cuda.get_device_name() if CUDA else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}; torch {torch.__version__}; {'read' if arguments.data else 'drawn'} patches")
    figures = open_figures(arguments.data) if arguments.data else draw_figures(2048)
    with tempfile.TemporaryDirectory() as folder:
        if "vit" in arguments.what:
            measure_vit(figures, Path(folder), arguments.rounds)
        if "compact" in arguments.what:
            measure_compact(figures, arguments.rounds)


def measure_vit(figures: Figures, folder: Path, rounds: int) -> None:
    """Ours and the plain style in alternation, for each share of recomputing blocks."""
    recipe = read_recipe(ROOT / "recipes" / "h-optimus-0.yaml")
    changes = {"model.weights": str(folder / "weights.safetensors"), "optimise.batch": BATCH}
    recipe = override(recipe, changes | ({} if CUDA else {"model.arguments": SMALL}))
    parameters, tokens = draw_weights(recipe, folder / "weights.safetensors")
    operations = 4 * parameters * tokens
    rate = matrix_rate()
    print(
        f"ViT of {parameters / 1e6:.1f} M parameters, {tokens} tokens; bf16 product {rate / 1e12:.2f} TFLOP/s"
    )

    write_pngs(figures, folder / "png")
    plain = PlainScript(recipe, figures, folder / "png")
    for share in SHARES:
        ours = train_ours(override(recipe, {"optimise.activation_checkpointing": share}), figures)
        images = alternate(rounds, ours=ours, plain=plain.images_per_s)
        ratio, used = images["ours"] / images["plain"], images["ours"] * operations / rate
        print(
            f"recomputing {share:.0%} of the blocks: ours {images['ours']:.2f} images/s in {BATCH}s, "
            f"plain {images['plain']:.2f} in {PLAIN_BATCH}s: {ratio:.1f} times; {used:.1%} of the matrix rate"
        )
        del ours
    if CUDA:
        del plain  # so that the peak is ours alone
        for share in SHARES:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            train_ours(override(recipe, {"optimise.activation_checkpointing": share}), figures)()
            print(f"recomputing {share:.0%}: peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    else:
        print(f"peak of the whole process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


def measure_compact(figures: Figures, rounds: int) -> None:
    """Patches/s of the compact recipe, whole steps, and the share of the time that waits for batches."""
    if CUDA:
        print("compact: measured on a machine without a GPU, or with CUDA_VISIBLE_DEVICES empty")
        return
    recipe = read_recipe(ROOT / "recipes" / "compact.yaml")
    rows = np.arange(min(len(figures.label), 32 * recipe.optimise.batch))
    task, learner = _start(recipe, figures, rows)
    epochs = [train_epoch(task, learner, epoch, hard=None) for epoch in range(rounds + 1)][1:]  # one warms up
    rate, share = (statistics.median(e[key] for e in epochs) for key in ("patches_per_s", "data_share"))
    print(f"compact: {rate:.0f} patches/s end to end, {share:.1%} of the time waits for batches")


def train_ours(recipe: Recipe, figures: Figures) -> Callable[[], float]:
    """A function that trains STEPS batches by the engine's own loop and returns images/s."""
    rows = np.arange(STEPS * BATCH) % len(figures.label)
    task, learner = _start(recipe, figures, rows)
    return lambda: train_epoch(task, learner, epoch=0, hard=None)["patches_per_s"]


def _start(recipe: Recipe, figures: Figures, rows: np.ndarray) -> tuple[Task, Learner]:
    task = Task(recipe, figures, rows, rows)
    return task, Learner(recipe, len(figures.domains), accelerator_for(recipe.optimise))


class PlainScript:
    """A first script's training: nothing in it is wrong, and nothing is thought through."""

    def __init__(self, recipe: Recipe, figures: Figures, folder: Path) -> None:
        ensure_torchvision()
        from peft import LoraConfig, get_peft_model

        spec = recipe.model
        assert spec.lora is not None
        self.model = Classifier(spec.backbone, spec.arguments, spec.head)
        lora = spec.lora
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.targets),
        )
        self.model.backbone.model = get_peft_model(self.model.backbone.model, config)
        self.device = torch.device("cuda" if CUDA else "cpu")
        self.model.to(self.device).train()
        self.optimiser = torch.optim.AdamW([p for p in self.model.parameters() if p.requires_grad], 1e-4)
        self.files, self.labels = sorted(folder.iterdir()), figures.label
        self.workers = min(8, os.cpu_count() or 1) if CUDA else 1

    def images_per_s(self) -> float:
        """Train PLAIN_STEPS batches after two that warm up the workers."""
        dataset = PlainPatches(self.files[: (PLAIN_STEPS + 2) * PLAIN_BATCH], self.labels)
        loader = DataLoader(dataset, PLAIN_BATCH, shuffle=True, num_workers=self.workers)
        for step, (x, y) in enumerate(loader):
            if step == 2:
                started = time.perf_counter()
            logits, _ = self.model(x.to(self.device))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y.to(self.device))
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            loss.item()
        return PLAIN_STEPS * PLAIN_BATCH / (time.perf_counter() - started)


class PlainPatches(Dataset[tuple[Tensor, Tensor]]):
    """PNG files, each decoded and augmented when it is asked for."""

    def __init__(self, files: list[Path], labels: np.ndarray) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        """Patches."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """(3, 224, 224) float32 and its label."""
        generator = np.random.default_rng()
        image = Image.open(self.files[index]).convert("RGB")
        image = image.rotate(generator.uniform(-15, 15), Image.Resampling.BILINEAR)
        if generator.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(generator.uniform(0.9, 1.1))
        image = image.resize((224, 224), Image.Resampling.BICUBIC)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        return (x - 0.7) / 0.2, torch.tensor(self.labels[index])


def alternate(rounds: int, **sides: Callable[[], float]) -> dict[str, float]:
    """Medians over the rounds; the first round warms up, and the order turns each time."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name in sorted(sides, reverse=bool(number % 2)):
            value = sides[name]()
            if number:
                measured[name].append(value)
    return {name: statistics.median(values) for name, values in measured.items()}


def draw_weights(recipe: Recipe, path: Path) -> tuple[int, int]:
    """Write random weights of the recipe's backbone; returns its parameters and tokens an image."""
    with torch.device("meta"):
        model = Classifier(recipe.model.backbone, recipe.model.arguments, recipe.model.head).backbone.model
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.empty(t.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
        for name, t in model.state_dict().items()
    }
    save_file(tensors, path)
    return sum(p.numel() for p in model.parameters()), model.patch_embed.num_patches + model.num_prefix_tokens


def draw_figures(count: int) -> Figures:
    """Figures without a table: smooth colour and grain, as costly to decode as tissue."""
    generator = np.random.default_rng(0)
    patches = np.empty((count, 128, 128, 3), np.uint8)
    for index in range(count):
        coarse = Image.fromarray(generator.integers(90, 230, (12, 12, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((128, 128), Image.Resampling.BICUBIC))
        patches[index] = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255)
    label = (generator.random(count) < 0.2).astype(np.float32)
    domain = generator.integers(0, 3, count)
    return Figures(pd.DataFrame(), "drawn", patches, label, label, domain, ("a", "b", "c"))


def write_pngs(figures: Figures, folder: Path) -> None:
    """As many patches as the plain style reads."""
    folder.mkdir()
    for index, patch in zip(range((PLAIN_STEPS + 2) * PLAIN_BATCH), repeated(figures.patches), strict=False):
        Image.fromarray(patch).save(folder / f"{index:05}.png")


def repeated(patches: np.ndarray) -> Iterator[np.ndarray]:
    """Patch after patch, for ever."""
    while True:
        yield from patches


if __name__ == "__main__":
    main()
