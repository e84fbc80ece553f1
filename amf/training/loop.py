"""The training loop: one recipe, one split, one run folder.

Runs as it is on a CPU, a GPU, or under `accelerate launch` on several. Everything random in an epoch is a
function of (seed, epoch, step, process), so a killed and resumed run ends as if nothing had happened.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from amf.augmentation.mixup import Mixed, mix, mixup_named
from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import augment, augmentation_named
from amf.data.figures import Figures
from amf.errors import DataError
from amf.files import write_text, written_whole
from amf.inference.predict import score
from amf.model.device import compute_dtype
from amf.model.preprocess import normalise, resize
from amf.training.checkpoint import CURRENT, load_checkpoint, save_checkpoint
from amf.training.depthwise import quicken
from amf.training.losses import (
    SupervisedContrastiveLoss,
    adaptive_focal_loss,
    domain_loss,
    positive_class_weight,
    reversal_ramp,
)
from amf.training.network import (
    Trainee,
    build_classifier,
    decay_groups,
    hold_frozen_in,
    recompute_activations,
    trainable_state,
)
from amf.training.recipe import Recipe, parse_recipe, write_recipe
from amf.training.sampling import epoch_order, hard_mask, sampling_weights, shard

Rows = NDArray[np.int64]
BEST = "best.safetensors"
ADAPTER = "adapter"
HISTORY = "history.json"
REPORT_EVERY = 10
"""Batches between two looks at the loss: on a GPU each look waits for all work in flight."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run has to say; its best weights are in BEST in the run folder."""

    best_epoch: int
    best_value: float
    history: list[dict[str, float]]


def fit(
    recipe: Recipe, figures: Figures, train: Rows, monitor: Rows, run: Path, resume: bool = False
) -> Outcome:
    """Train on some rows, choose the epoch by others.

    Parameters
    ----------
    train, monitor : row numbers of `figures`, int64, disjoint.
    run : folder for recipe, history, TensorBoard, checkpoint and best weights; created. Nodes share it.
    resume : continue from the folder's checkpoint; where there is none yet, start.

    Raises
    ------
    DataError : a side lacks a class, the batch cannot be shared out, the folder holds another run (or this
        one, and `resume` is off), the loss is not finite.
    RecipeError : the recipe's weights are not at hand.
    """
    return _Run(recipe, figures, train, monitor, run, resume).fit()


class _Run:
    """The state of a run; `fit` reads top to bottom."""

    def __init__(
        self, recipe: Recipe, figures: Figures, train: Rows, monitor: Rows, run: Path, resume: bool
    ) -> None:
        for name, rows in (("training", train), ("monitor", monitor)):
            if len(np.unique(figures.label[rows])) < 2:
                raise DataError(f"the {len(rows)} {name} figures are of one class, expected AMF and NMF")
        if (run / CURRENT).exists() and not resume:
            raise DataError(f"{run} holds a run already: resume it, or choose another folder")
        self.recipe, self.figures, self.train, self.monitor, self.run = recipe, figures, train, monitor, run
        self.labels = figures.soft_label if recipe.loss.labels == "soft" else figures.label
        self.accelerator = _accelerator(recipe)
        self.device = self.accelerator.device

        optimise, processes = recipe.optimise, self.accelerator.num_processes
        self.batch, rest = divmod(optimise.batch, processes * optimise.accumulate)
        self.steps_per_epoch = len(train) // optimise.batch  # whole batches: every step weighs the same
        if rest or self.batch < 2 or not self.steps_per_epoch:
            raise DataError(
                f"a batch of {optimise.batch} out of {len(train)} figures does not divide into "
                f"{optimise.accumulate} equal parts of two or more on each of {processes} processes"
            )

        trainee = Trainee(build_classifier(recipe.model, optimise.seed), len(figures.domains))
        if optimise.activation_checkpointing:
            recompute_activations(trainee.classifier, optimise.activation_checkpointing)
        if self.accelerator.mixed_precision != "no":
            hold_frozen_in(trainee, DTYPES[self.accelerator.mixed_precision])
        if self.device.type == "cpu":
            quicken(trainee)
        trainee = trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = decay_groups(trainee, optimise.weight_decay)
        optimiser = torch.optim.AdamW(groups, optimise.learning_rate, fused=True)
        self.model, self.optimiser = self.accelerator.prepare(trainee, optimiser)
        self.trainee: Trainee = self.accelerator.unwrap_model(self.model)
        self.contrastive = SupervisedContrastiveLoss()
        self.learnt = trainable_state(self.trainee)  # the network's own tensors, not copies
        self.average = {k: v.clone() for k, v in self.learnt.items()} if optimise.ema else {}

        self.epoch, self.history = 0, list[dict[str, float]]()
        self.hard: NDArray[np.bool_] | None = None
        run.mkdir(parents=True, exist_ok=True)
        if resume and (state := load_checkpoint(run)) is not None:
            self._restore(state)

    def fit(self) -> Outcome:
        """Train until the last epoch or until patience runs out."""
        main = self.accelerator.is_main_process
        if main:
            write_recipe(self.recipe, self.run / "recipe.yaml")
        board = SummaryWriter(self.run / "tensorboard", purge_step=self.epoch) if main else None
        for epoch in range(self.epoch, self.recipe.optimise.epochs):
            if self._out_of_patience():
                break
            values = self._train_epoch(epoch)
            with self._averaged_weights():
                values |= self._check_monitor()
                if self.recipe.sampling.hard_mining:
                    self.hard = hard_mask(expit(self._logits(self.train)), self.labels[self.train])
                self.history.append(values)
                if main and self._best_epoch() == epoch:
                    self._save_best()
            self.epoch = epoch + 1
            if main and board is not None:
                self._report(values, board)
                save_checkpoint(self.run, self._state())
            self.accelerator.wait_for_everyone()
        if board is not None:
            board.close()
        best = self._best_epoch()
        return Outcome(best, self.history[best][self.recipe.optimise.monitor], self.history)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        optimise = self.recipe.optimise
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(_seed(optimise.seed, epoch, process))  # dropout draws from the global generator
        draws = self.steps_per_epoch * optimise.batch
        order = self.train[epoch_order(self._weights(), optimise.seed, epoch, draws)]
        adaptive = self.recipe.loss.adaptive_weight
        positive = positive_class_weight(torch.from_numpy(self.labels[order])) if adaptive else 1.0

        self.model.train()
        batches = shard(order, process, processes).reshape(-1, self.batch)
        sums: dict[str, Tensor] = {}
        started, data_time = time.perf_counter(), 0.0
        hidden = None if self.accelerator.is_main_process else True  # None: shown on a terminal only
        progress = tqdm(batches, desc=f"epoch {epoch + 1}", unit="batch", leave=False, disable=hidden)
        for number, rows in enumerate(progress, start=1):
            step = epoch * self.steps_per_epoch + (number - 1) // optimise.accumulate
            self._set_rate(step)
            fetched = time.perf_counter()
            mixed = self._patches(rows, epoch, number)
            data_time += time.perf_counter() - fetched
            with self.accelerator.accumulate(self.model):
                terms = self._loss(mixed, rows, positive, step / self._total_steps)
                self.accelerator.backward(terms["loss"])
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), optimise.clip)
                self.optimiser.step()
                self.optimiser.zero_grad()
            if self.accelerator.sync_gradients:
                self._update_average(step + 1)
            sums = {name: sums.get(name, 0.0) + term.detach() for name, term in terms.items()}
            if number % REPORT_EVERY == 0 or number == len(batches):
                loss, seconds = sums["loss"].item() / number, time.perf_counter() - started
                if not math.isfinite(loss):
                    raise DataError(
                        f"the loss is {loss} by batch {number} of epoch {epoch + 1}: lower the rate"
                    )
                lr = self.optimiser.param_groups[0]["lr"]
                speed = len(rows) * number * processes / seconds
                progress.set_postfix(loss=f"{loss:.4f}", lr=f"{lr:.1e}", patches_per_s=f"{speed:.0f}")
        self._share_statistics()
        values = {f"train_{name}": total.item() / len(batches) for name, total in sums.items()}
        speeds = {"patches_per_s": len(order) / seconds, "data_share": data_time / seconds}
        return {"epoch": float(epoch), "positive_weight": positive, **values, **speeds}

    def _patches(self, rows: Rows, epoch: int, number: int) -> Mixed:
        """One augmented, mixed, normalised batch on the device."""
        recipe, spec = self.recipe, self.recipe.model.image
        place = (recipe.optimise.seed, epoch, number, self.accelerator.process_index)
        # Pixels are drawn where they are used, choices on the CPU: reading them from a GPU would wait for it.
        pixels, choices = generator_at(*place, 0, device=self.device), generator_at(*place, 1)
        source = self.figures.batch(rows).to(self.device).permute(0, 3, 1, 2)  # (B, 3, 128, 128)
        x = augment(augmentation_named(recipe.augmentation), source, pixels, spec.field_of_view_px)
        x = normalise(resize(x, spec), spec)  # (B, 3, S, S)
        y = torch.from_numpy(self.labels[rows]).to(self.device)
        # The share is drawn whether it decides or not, so that every recipe uses the generator alike.
        mixes = torch.rand(1, generator=choices).item() < recipe.mixup_share
        if recipe.mixup is None or not mixes:
            alone = torch.arange(len(rows), device=self.device)
            return Mixed(x, y, alone, torch.ones(len(rows), device=self.device))
        return mix(x, y, mixup_named(recipe.mixup), choices, torch.from_numpy(self.figures.domain[rows]))

    def _loss(self, mixed: Mixed, rows: Rows, positive: float, done: float) -> dict[str, Tensor]:
        """The weighted terms and, first, their sum (paper, Model Architecture and Training)."""
        weights = self.recipe.loss
        x = mixed.images.contiguous(memory_format=torch.channels_last)
        reversal = reversal_ramp(done) if weights.domain_ramp else 1.0
        logits, embeddings, domain_logits = self.model(x, reversal)  # autocast inside, float32 out
        terms = {"focal": adaptive_focal_loss(logits, mixed.labels, positive, weights.gamma)}
        if weights.contrastive:
            terms["contrastive"] = weights.contrastive * self.contrastive(embeddings, mixed.labels)
        domains = torch.from_numpy(self.figures.domain[rows]).to(self.device)
        adversarial = domain_loss(domain_logits, domains, domains[mixed.partners], mixed.lambdas)
        # With weight 0 the term stays in the sum: every process must send a gradient for the domain head.
        terms["domain"] = weights.domain * adversarial
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}

    def _check_monitor(self) -> dict[str, float]:
        rows = self.monitor
        logits, truth = self._logits(rows), self.figures.label[rows]
        called = logits >= 0
        recalls = [float((called[truth == c] == bool(c)).mean()) for c in (0, 1)]
        loss = functional.binary_cross_entropy_with_logits(
            torch.from_numpy(logits), torch.from_numpy(self.labels[rows]).double()
        )
        return {
            "loss": loss.item(),
            "auc": float(roc_auc_score(truth, logits)),
            "nmf_recall": recalls[0],
            "amf_recall": recalls[1],
            "balanced_accuracy": sum(recalls) / 2,
        }

    @torch.inference_mode()
    def _logits(self, rows: Rows) -> NDArray[np.float64]:
        """Logits (n,) of some rows, without augmentation; each process scores a share and gets them all."""
        self.model.eval()
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        own, image = shard(rows, process, processes), self.recipe.model.image
        with self.accelerator.autocast():
            parts = [
                score(
                    self.trainee.classifier, self.figures.batch(part).to(self.device), image, 1, torch.float32
                )
                for part in np.array_split(own, math.ceil(len(own) / 128))
            ]
        gathered = self.accelerator.gather(torch.cat(parts).to(self.device)).cpu()  # rank after rank
        in_order = gathered.view(processes, -1).T.reshape(-1)  # as `shard` dealt them out
        return in_order[: len(rows)].numpy()  # without what filled up the last round

    def _weights(self) -> NDArray[np.float64]:
        sampling, n = self.recipe.sampling, len(self.train)
        labels = self.labels[self.train] if sampling.balance_classes else np.zeros(n, np.float32)
        domains = self.figures.domain[self.train] if sampling.balance_domains else np.zeros(n, np.int64)
        return sampling_weights(labels, list(domains), self.hard)

    @property
    def _total_steps(self) -> int:
        return self.recipe.optimise.epochs * self.steps_per_epoch

    def _set_rate(self, step: int) -> None:
        """Linear warm-up, then half a cosine down to zero: a function of the step alone."""
        warmup = self.recipe.optimise.warmup * self._total_steps
        share = (step + 1) / (warmup + 1)
        if step >= warmup:
            share = 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (self._total_steps - warmup))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.optimise.learning_rate * share

    @torch.no_grad()
    def _update_average(self, steps: int) -> None:
        if not self.average:
            return
        # A running mean at first, so that the random start is forgotten as fast as it can be.
        decay = min(self.recipe.optimise.ema, steps / (steps + 9))
        floating = [name for name, mean in self.average.items() if mean.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[name] for name in floating], [self.learnt[name] for name in floating], 1 - decay
        )

    @torch.no_grad()
    def _share_statistics(self) -> None:
        """Processes have seen different batches: all go on with the mean of their batch statistics."""
        if self.accelerator.num_processes == 1:
            return
        for name, _ in self.trainee.named_buffers():
            for state in (self.learnt, self.average):
                if name in state and state[name].is_floating_point():
                    state[name].copy_(self.accelerator.reduce(state[name].clone(), "mean"))

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The weight average in the network's place; the trained weights come back afterwards."""
        kept = {name: self.learnt[name].clone() for name in self.average}
        _copy(self.average, self.learnt)
        try:
            yield
        finally:
            _copy(kept, self.learnt)

    def _best_epoch(self) -> int:
        name = self.recipe.optimise.monitor
        values = np.array([values[name] for values in self.history])
        return int(np.argmin(values) if name == "loss" else np.argmax(values))

    def _out_of_patience(self) -> bool:
        waited = len(self.history) - 1 - self._best_epoch() if self.history else 0
        return waited >= self.recipe.optimise.patience

    def _save_best(self) -> None:
        classifier = self.trainee.classifier
        with written_whole(self.run / BEST) as partial:
            save_file({name: t.contiguous() for name, t in trainable_state(classifier).items()}, partial)
        if self.recipe.model.lora:
            from amf.training.lora import save_adapter  # PEFT takes seconds to import

            save_adapter(classifier.backbone, self.run / ADAPTER)

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self._identity(),
            "epoch": self.epoch,
            "history": self.history,
            "hard": None if self.hard is None else torch.from_numpy(self.hard),
            "weights": self.learnt,
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        recipe, *data = json.loads(state["identity"])
        # parsed, not compared as text: a key that is newer than the checkpoint has its default
        same_recipe = parse_recipe(recipe, str(self.run / CURRENT)) == self.recipe
        if not same_recipe or data != json.loads(self._identity())[1:]:
            raise DataError(
                f"{self.run} holds a checkpoint of another recipe, table or split: choose another folder"
            )
        self.epoch, self.history = state["epoch"], state["history"]
        self.hard = None if state["hard"] is None else state["hard"].numpy()
        _copy(state["weights"], self.learnt)
        _copy(state["average"], self.average)
        self.optimiser.load_state_dict(state["optimiser"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _identity(self) -> str:
        """What must be the same for a checkpoint to continue this run."""
        rows = [self.train.tolist(), self.monitor.tolist()]
        return json.dumps([self.recipe.model_dump(mode="json"), self.figures.table_hash, rows])

    def _report(self, values: dict[str, float], board: SummaryWriter) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, int(values["epoch"]))
        write_text(self.run / HISTORY, json.dumps(self.history, indent=1) + "\n")
        optimise = self.recipe.optimise
        remaining = (self._total_steps - self.epoch * self.steps_per_epoch) * optimise.batch
        print(
            f"epoch {self.epoch}/{optimise.epochs}: train loss {values['train_loss']:.4f}, "
            f"monitor loss {values['loss']:.4f}, AUC {values['auc']:.4f}, "
            f"BA {values['balanced_accuracy']:.4f}; {values['patches_per_s']:.0f} patches/s, "
            f"{remaining / values['patches_per_s'] / 60:.1f} min left",
            flush=True,
        )


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}


def _accelerator(recipe: Recipe) -> Accelerator:
    # Without a GPU, processes that were launched together work together on the CPU.
    cpu = not torch.cuda.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
    # bfloat16 where the device has it, float16 on older GPUs, else float32
    automatic = compute_dtype(torch.bfloat16, PartialState(cpu=cpu).device)
    dtype = automatic if recipe.optimise.precision == "auto" else torch.float32
    (name,) = (name for name, candidate in DTYPES.items() if candidate == dtype)
    AcceleratorState._reset_state()  # the runs of one process may differ in precision
    return Accelerator(cpu=cpu, mixed_precision=name, gradient_accumulation_steps=recipe.optimise.accumulate)


def _seed(*position: int) -> int:
    return int(np.random.SeedSequence(position).generate_state(1)[0])


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in source.items():
            target[name].copy_(tensor)
