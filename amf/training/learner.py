"""The network that learns, on its device, with optimiser, weight average and checkpoint.

On one process or on several: Accelerate averages their gradients.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from amf.data.figures import Figures
from amf.errors import DataError
from amf.files import written_whole
from amf.inference.predict import score
from amf.inference.ready import quicken
from amf.model.device import compute_dtype, keep_freed_memory
from amf.training.batches import dealt
from amf.training.losses import Trainee
from amf.training.network import (
    build_classifier,
    cast_frozen,
    decay_groups,
    recompute_activations,
    save_adapter,
    trainable_state,
)
from amf.training.recipe import Optimise, Recipe

BEST, ADAPTER = "best.safetensors", "adapter"
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"

CHECKPOINT_FORMAT = 2
"""A checkpoint of another format cannot continue; since 2, norms and biases have no weight decay."""

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}
"""Accelerate's names of the types to compute in."""


class Learner:
    """A recipe's network with all that changes while it learns.

    Attributes
    ----------
    model : images, reversal → logits, embeddings, domain logits; averages gradients over the processes.
    trainee : the same network without what Accelerate put around it.
    learnt : what training changes, by name: the network's own tensors, not copies.
    average : their exponential moving average, by which epochs are judged; empty where optimise.ema is 0.

    Raises
    ------
    RecipeError : the recipe's weights are not at hand.
    """

    def __init__(self, recipe: Recipe, domains: int, accelerator: Accelerator) -> None:
        self.recipe, self.accelerator, self.device = recipe, accelerator, accelerator.device
        self.process, self.processes = accelerator.process_index, accelerator.num_processes
        optimise = recipe.optimise
        trainee = Trainee(build_classifier(recipe.model, optimise.seed), domains)
        if optimise.activation_checkpointing:
            recompute_activations(trainee.classifier, optimise.activation_checkpointing)
        if accelerator.mixed_precision != "no":
            cast_frozen(trainee, PRECISIONS[accelerator.mixed_precision])
        if self.device.type == "cpu":
            keep_freed_memory()
            quicken(trainee)
        trainee = trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = decay_groups(trainee, optimise.weight_decay)
        optimiser = torch.optim.AdamW(groups, optimise.learning_rate, fused=True)
        self.model, self.optimiser = accelerator.prepare(trainee, optimiser)
        self.trainee: Trainee = accelerator.unwrap_model(self.model)
        self.learnt = trainable_state(self.trainee)
        # torch's AveragedModel and timm's ModelEmaV3 copy the frozen weights too, a billion of them.
        self.average = {name: tensor.clone() for name, tensor in self.learnt.items()} if optimise.ema else {}

    def learn(self, loss: Tensor, rate: float, step: int) -> None:
        """Go back through a batch, and take the optimiser's step, counted from 0, where the batch ends it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.accelerator.backward(loss)
        ends_step = bool(self.accelerator.sync_gradients)
        if ends_step:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.optimise.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if ends_step and self.average:
            # A running mean at first, so that the random start is forgotten as fast as it can be.
            decay = min(self.recipe.optimise.ema, (step + 1) / (step + 10))
            floating = [name for name, mean in self.average.items() if mean.is_floating_point()]
            means, weights = ([state[name] for name in floating] for state in (self.average, self.learnt))
            get_ema_multi_avg_fn(decay)(means, weights, step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the average in the network's place; the weights that learn come back afterwards."""
        kept = {name: self.learnt[name].clone() for name in self.average}
        copy_into(self.learnt, self.average)
        try:
            yield
        finally:
            copy_into(self.learnt, kept)

    def logits(self, figures: Figures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Logits (n,) of some rows, without augmentation; each process scores a share and gets them all."""
        self.model.eval()
        own = dealt(rows, self.process, self.processes)
        with self.accelerator.autocast():
            scored = score(
                self.trainee.classifier, figures.batches(own), self.recipe.model.image, 1, torch.float32
            )
        gathered = self.accelerator.gather(scored.to(self.device)).cpu()  # process after process
        in_order = gathered.view(self.processes, -1).T.reshape(-1)
        return in_order[: len(rows)].numpy()  # without the rows that filled up the last round

    @torch.no_grad()
    def share_statistics(self) -> None:
        """Give all processes, which have seen different batches, the mean of their batch statistics."""
        if self.processes == 1:
            return
        for name, _ in self.trainee.named_buffers():
            for state in (self.learnt, self.average):
                if name in state and state[name].is_floating_point():
                    state[name].copy_(self.accelerator.reduce(state[name].clone(), "mean"))

    def save_best(self, run: Path) -> None:
        """Write what the network has learnt, as it stands; adapters in PEFT's own format too."""
        classifier = self.trainee.classifier
        with written_whole(run / BEST) as partial:
            save_file({name: t.contiguous() for name, t in trainable_state(classifier).items()}, partial)
        if self.recipe.model.lora:
            save_adapter(classifier.backbone, run / ADAPTER)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold of it."""
        scaler = self.accelerator.scaler
        return {
            "weights": self.learnt,
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's `state`."""
        copy_into(self.learnt, state["weights"])
        copy_into(self.average, state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])


@torch.no_grad()
def copy_into(target: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    """Overwrite the target's tensors that the source names."""
    for name, tensor in source.items():
        target[name].copy_(tensor)


def accelerator_for(optimise: Optimise) -> Accelerator:
    """Accelerate's view of this process, its device and the precision to compute in."""
    # Without a GPU, processes that were launched together work together on the CPU.
    on_cpu = not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    # bfloat16 where the device has it, float16 on older GPUs, else float32
    automatic = compute_dtype(torch.bfloat16, PartialState(cpu=on_cpu).device)
    dtype = automatic if optimise.precision == "auto" else torch.float32
    (name,) = (name for name, candidate in PRECISIONS.items() if candidate == dtype)
    AcceleratorState._reset_state()  # the runs of one process may differ in precision
    return Accelerator(cpu=on_cpu, mixed_precision=name, gradient_accumulation_steps=optimise.accumulate)


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text, lists, dicts) as the run's checkpoint and keep the one before.

    Raises
    ------
    DataError : it cannot be written; the last good checkpoint stays.
    """
    path = run / CHECKPOINT
    with written_whole(path) as partial:
        try:
            torch.save({"format": CHECKPOINT_FORMAT, **state}, partial)
        except RuntimeError as error:  # as torch reports a full disk
            raise DataError(f"{path} cannot be written, the last good checkpoint stays: {error}") from error
        if path.exists():
            path.replace(run / PREVIOUS)


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole; None where the run has not saved one yet.

    Raises
    ------
    DataError : there are checkpoints, but none can be read, or the newest is of another format.
    """
    damaged = []
    for path in (run / CHECKPOINT, run / PREVIOUS):
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a truncated file fails in many ways
            damaged.append(path)
            print(f"{path} is damaged ({repr(error).splitlines()[0]}); trying the one before", flush=True)
            continue
        if (found := state.get("format", 1)) != CHECKPOINT_FORMAT:
            raise DataError(
                f"{path} has the format {found}, expected {CHECKPOINT_FORMAT}: start the run anew, or finish "
                "it with the version of amf that wrote it"
            )
        return state
    if damaged:
        raise DataError(f"{damaged[0]} is damaged and no earlier checkpoint can be read: start the run anew")
    return None


def remove_checkpoints(run: Path) -> None:
    """Free the space of a finished run's checkpoints."""
    for name in (CHECKPOINT, PREVIOUS):
        (run / name).unlink(missing_ok=True)
