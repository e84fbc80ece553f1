"""The network that learns, on its device, with optimiser and weight average; on one process or on several."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from amf.data.figures import Figures
from amf.files import written_whole
from amf.inference.predict import score
from amf.model.classifier import Classifier
from amf.model.device import compute_dtype, keep_freed_memory
from amf.training.average import WeightAverage, copy_into
from amf.training.depthwise import quicken
from amf.training.losses import DomainHead
from amf.training.network import (
    build_classifier,
    decay_groups,
    hold_frozen_in,
    recompute_activations,
    trainable_state,
)
from amf.training.recipe import Optimise, Recipe
from amf.training.sampling import shard

BEST, ADAPTER = "best.safetensors", "adapter"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}


class Trainee(nn.Module):
    """A classifier and, for training alone, its domain head."""

    def __init__(self, classifier: Classifier, domains: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.domain_head = DomainHead(classifier.embedding_size, domains)

    def forward(self, x: Tensor, reversal: float) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, S, S) → logits (B,), embeddings (B, E), domain logits (B, |D|)."""
        logits, embeddings = self.classifier(x)
        return logits, embeddings, self.domain_head(embeddings, reversal)

    def train(self, mode: bool = True) -> "Trainee":
        """Switch the mode, except of frozen modules: their batch statistics must not change in training.

        That is a backbone without trainable weights, and the statistics of a frozen batch norm.
        """
        super().train(mode)
        backbone = self.classifier.backbone
        if not any(p.requires_grad for p in backbone.parameters()):
            backbone.eval()
        for module in backbone.modules():
            if isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters()):
                module.eval()
        return self


class Learner:
    """A recipe's network with all that changes while it learns.

    Attributes
    ----------
    model : images, reversal → logits, embeddings, domain logits; the processes' gradients are averaged.
    learnt : what training changes, by name: the network's own tensors, not copies.
    average : their weight average.

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
            hold_frozen_in(trainee, DTYPES[accelerator.mixed_precision])
        if self.device.type == "cpu":
            keep_freed_memory()
            quicken(trainee)
        trainee = trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = decay_groups(trainee, optimise.weight_decay)
        optimiser = torch.optim.AdamW(groups, optimise.learning_rate, fused=True)
        self.model, self.optimiser = accelerator.prepare(trainee, optimiser)
        self.trainee: Trainee = accelerator.unwrap_model(self.model)
        self.learnt = trainable_state(self.trainee)
        self.average = WeightAverage(self.learnt, optimise.ema)

    def learn(self, loss: Tensor, rate: float) -> bool:
        """Go one batch back; True where it completes a step of the optimiser."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.accelerator.backward(loss)
        complete = bool(self.accelerator.sync_gradients)
        if complete:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.optimise.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        return complete

    def logits(self, figures: Figures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Logits (n,) of some rows, without augmentation; each process scores a share and gets them all."""
        self.model.eval()
        own = shard(rows, self.process, self.processes)
        with self.accelerator.autocast():
            scored = score(
                self.trainee.classifier, figures.batches(own), self.recipe.model.image, 1, torch.float32
            )
        gathered = self.accelerator.gather(scored.to(self.device)).cpu()  # rank after rank
        in_order = gathered.view(self.processes, -1).T.reshape(-1)  # as `shard` dealt them out
        return in_order[: len(rows)].numpy()  # without what filled up the last round

    @torch.no_grad()
    def share_statistics(self) -> None:
        """Processes have seen different batches: all go on with the mean of their batch statistics."""
        if self.processes == 1:
            return
        for name, _ in self.trainee.named_buffers():
            for state in (self.learnt, self.average.mean):
                if name in state and state[name].is_floating_point():
                    state[name].copy_(self.accelerator.reduce(state[name].clone(), "mean"))

    def save_best(self, run: Path) -> None:
        """Write what the network has learnt, as it stands; adapters in PEFT's own format too."""
        classifier = self.trainee.classifier
        with written_whole(run / BEST) as partial:
            save_file({name: t.contiguous() for name, t in trainable_state(classifier).items()}, partial)
        if self.recipe.model.lora:
            from amf.training.lora import save_adapter  # PEFT takes seconds to import

            save_adapter(classifier.backbone, run / ADAPTER)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold of it."""
        scaler = self.accelerator.scaler
        return {
            "weights": self.learnt,
            "average": self.average.mean,
            "optimiser": self.optimiser.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's `state`."""
        copy_into(self.learnt, state["weights"])
        copy_into(self.average.mean, state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def accelerator_for(optimise: Optimise) -> Accelerator:
    """Accelerate's view of this process, its device and the precision to compute in."""
    # Without a GPU, processes that were launched together work together on the CPU.
    cpu = not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    # bfloat16 where the device has it, float16 on older GPUs, else float32
    automatic = compute_dtype(torch.bfloat16, PartialState(cpu=cpu).device)
    dtype = automatic if optimise.precision == "auto" else torch.float32
    (name,) = (name for name, candidate in DTYPES.items() if candidate == dtype)
    AcceleratorState._reset_state()  # the runs of one process may differ in precision
    return Accelerator(cpu=cpu, mixed_precision=name, gradient_accumulation_steps=optimise.accumulate)
