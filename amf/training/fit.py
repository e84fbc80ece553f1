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
from accelerate import Accelerator
from numpy.typing import NDArray
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from amf.errors import DataError
from amf.predict import compute_dtype, score
from amf.preprocess import normalise, resize
from amf.training.augment import augment, augmentation_named
from amf.training.checkpoint import load_checkpoint, save_checkpoint
from amf.training.data import Figures
from amf.training.draws import generator_at
from amf.training.geometry import View
from amf.training.losses import (
    SupervisedContrastiveLoss,
    adaptive_focal_loss,
    domain_loss,
    positive_class_weight,
    reversal_ramp,
)
from amf.training.mixup import Mixed, mix, mixup_named
from amf.training.network import Trainee, build_classifier, trainable_state
from amf.training.recipe import Recipe, write_recipe
from amf.training.sampling import epoch_order, hard_mask, sampling_weights, shard

Rows = NDArray[np.int64]
BEST = "best.safetensors"
ADAPTER = "adapter"
HISTORY = "history.json"


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
    run : folder for recipe, history, TensorBoard, checkpoint and best weights; created.
    resume : continue from the folder's checkpoint; without one it starts anew.

    Raises
    ------
    DataError : a side lacks a class, the checkpoint belongs to another run, the loss is not finite.
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
        self.recipe, self.figures, self.train, self.monitor, self.run = recipe, figures, train, monitor, run
        self.accelerator = _accelerator(recipe)
        self.device = self.accelerator.device
        run.mkdir(parents=True, exist_ok=True)

        optimise = recipe.optimise
        self.batch = optimise.batch // (self.accelerator.num_processes * optimise.accumulate)
        draws = len(train) // optimise.batch * optimise.batch  # whole batches: every step weighs the same
        if self.batch < 2 or draws == 0:
            raise DataError(
                f"batch {optimise.batch} does not fit {len(train)} figures on "
                f"{self.accelerator.num_processes} processes with {optimise.accumulate} accumulation steps"
            )
        self.draws = draws
        self.steps_per_epoch = draws // optimise.batch

        trainee = Trainee(build_classifier(recipe.model, optimise.seed), len(figures.domains))
        if optimise.activation_checkpointing:
            trainee.classifier.backbone.model.set_grad_checkpointing()  # type: ignore[operator, union-attr]
        _hold_frozen_part_once(trainee, self.accelerator)
        trainee = trainee.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(
            [p for p in trainee.parameters() if p.requires_grad],
            optimise.learning_rate,
            weight_decay=optimise.weight_decay,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        self.model, self.optimiser = self.accelerator.prepare(trainee, optimiser)
        self.trainee: Trainee = self.accelerator.unwrap_model(self.model)
        self.contrastive = SupervisedContrastiveLoss()
        self.average = (
            {k: v.clone() for k, v in trainable_state(self.trainee).items()} if optimise.ema else {}
        )

        self.epoch, self.history = 0, list[dict[str, float]]()
        self.hard: NDArray[np.bool_] | None = None
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
                    self.hard = hard_mask(
                        self._probabilities(self.train), self.figures.soft_label[self.train]
                    )
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
        recipe, figures = self.recipe, self.figures
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        torch.manual_seed(
            _seed(recipe.optimise.seed, epoch, process)
        )  # dropout draws from the global generator
        order = self.train[epoch_order(self._weights(), recipe.optimise.seed, epoch, self.draws)]
        labels = figures.soft_label if recipe.loss.labels == "soft" else figures.label
        positive = (
            positive_class_weight(torch.from_numpy(labels[order])) if recipe.loss.adaptive_weight else 1.0
        )

        self.model.train()
        if recipe.model.train == "head":
            self.trainee.classifier.backbone.eval()  # frozen, its batch statistics too
        batches = shard(order, process, processes).reshape(-1, self.batch)
        sums, started, data_time = {"loss": 0.0}, time.perf_counter(), 0.0
        progress = tqdm(batches, desc=f"epoch {epoch + 1}", unit="batch", leave=False, disable=None)
        for step, rows in enumerate(progress):
            fetched = time.perf_counter()
            generator = generator_at(recipe.optimise.seed, epoch, step, process)
            mixed = self._patches(rows, labels, generator)
            data_time += time.perf_counter() - fetched
            with self.accelerator.accumulate(self.model):
                done = (epoch * self.steps_per_epoch + step / recipe.optimise.accumulate) / self._total_steps
                terms = self._loss(mixed, rows, positive, done)
                loss = terms["loss"]
                if not torch.isfinite(loss):
                    raise DataError(
                        f"the loss is {loss.item()} at epoch {epoch + 1}, step {step + 1}: lower the rate"
                    )
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), recipe.optimise.clip)
                self.optimiser.step()
                self.optimiser.zero_grad()
                if self.accelerator.sync_gradients:
                    self.schedule.step()
                    self._update_average()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.item()
            rate = len(rows) * (step + 1) * processes / (time.perf_counter() - started)
            lr = self.schedule.get_last_lr()[0]
            progress.set_postfix(
                loss=f"{sums['loss'] / (step + 1):.4f}", lr=f"{lr:.1e}", patches_per_s=f"{rate:.0f}"
            )
        seconds = time.perf_counter() - started
        values = {f"train_{name}": total / len(batches) for name, total in sums.items()}
        speed = {"patches_per_s": len(order) / seconds, "data_share": data_time / seconds}
        return {"epoch": float(epoch), "positive_weight": positive, **values, **speed}

    def _patches(self, rows: Rows, labels: NDArray[np.float32], generator: torch.Generator) -> Mixed:
        """One augmented, mixed, normalised batch on the device."""
        recipe, spec = self.recipe, self.recipe.model.image
        # On a GPU the noise fields are drawn there too.
        source = self.figures.batch(rows).to(self.device).permute(0, 3, 1, 2)  # (B, 3, 128, 128)
        x = augment(
            augmentation_named(recipe.augmentation),
            source,
            generator,
            _view(spec.field_of_view_px, spec.input_px),
        )
        x = normalise(resize(x, spec), spec)  # (B, 3, S, S)
        y = torch.from_numpy(labels[rows]).to(self.device)
        # The share is drawn whether it decides or not, so that every recipe uses the generator alike.
        mixes = torch.rand(1, generator=generator).item() < recipe.mixup_share
        if recipe.mixup is None or not mixes:
            alone = torch.arange(len(rows), device=self.device)
            return Mixed(x, y, alone, torch.ones(len(rows), device=self.device))
        domains = torch.from_numpy(self.figures.domain[rows]).to(self.device)
        return mix(x, y, mixup_named(recipe.mixup), generator, domains)

    def _loss(self, mixed: Mixed, rows: Rows, positive: float, done: float) -> dict[str, Tensor]:
        """The weighted terms and, first, their sum (paper, Model Architecture and Training)."""
        weights = self.recipe.loss
        x = mixed.images.contiguous(memory_format=torch.channels_last)
        with self.accelerator.autocast():
            logits, embeddings, domain_logits = self.model(
                x, reversal_ramp(done) if weights.domain_ramp else 1.0
            )
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
        p = self._probabilities(rows)
        y, truth = self.figures.soft_label[rows], self.figures.label[rows]
        loss = functional.binary_cross_entropy(torch.from_numpy(p), torch.from_numpy(y.astype(np.float64)))
        called = p >= 0.5
        recalls = [float((called[truth == c] == bool(c)).mean()) for c in (0, 1)]
        return {
            "loss": loss.item(),
            "auc": float(roc_auc_score(truth, p)),
            "nmf_recall": recalls[0],
            "amf_recall": recalls[1],
            "balanced_accuracy": sum(recalls) / 2,
        }

    def _probabilities(self, rows: Rows) -> NDArray[np.float64]:
        """P(atypical) of some rows, without augmentation, each process scoring a share."""
        self.model.eval()
        process, processes = self.accelerator.process_index, self.accelerator.num_processes
        with self.accelerator.autocast():
            own = logits_of(
                self.trainee, self.figures, shard(rows, process, processes), self.recipe, self.device
            )
        if processes == 1:
            return np.asarray(1 / (1 + np.exp(-own)))
        gathered = self.accelerator.gather(torch.from_numpy(own).to(self.device)).cpu().numpy()
        logits = gathered.reshape(processes, -1).T.reshape(-1)[: len(rows)]  # undo the sharding
        return np.asarray(1 / (1 + np.exp(-logits)))

    def _weights(self) -> NDArray[np.float64]:
        sampling, n = self.recipe.sampling, len(self.train)
        labels = self.figures.soft_label[self.train] if sampling.balance_classes else np.zeros(n, np.float32)
        domains = self.figures.domain[self.train] if sampling.balance_domains else np.zeros(n, np.int64)
        return sampling_weights(labels, list(domains), self.hard)

    @property
    def _total_steps(self) -> int:
        return self.recipe.optimise.epochs * self.steps_per_epoch

    def _rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to zero."""
        warmup = self.recipe.optimise.warmup * self._total_steps
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (
            1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1.0, self._total_steps - warmup)))
        )

    @torch.no_grad()
    def _update_average(self) -> None:
        # A running mean at first, so that the random start is forgotten as fast as it can be.
        step = self.schedule.last_epoch
        decay = min(self.recipe.optimise.ema, step / (step + 9))
        current = trainable_state(self.trainee)
        for name, mean in self.average.items():
            if mean.is_floating_point():
                mean.lerp_(current[name], 1 - decay)
            else:
                mean.copy_(current[name])

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """The weight average in the network's place; the trained weights come back afterwards."""
        if not self.average:
            yield
            return
        current = trainable_state(self.trainee)
        kept = {name: tensor.clone() for name, tensor in current.items()}
        _copy(self.average, current)
        try:
            yield
        finally:
            _copy(kept, current)

    def _best_epoch(self) -> int:
        name = self.recipe.optimise.monitor
        values = np.array([values[name] for values in self.history])
        return int(np.argmin(values) if name == "loss" else np.argmax(values))

    def _out_of_patience(self) -> bool:
        return (
            bool(self.history) and len(self.history) - 1 - self._best_epoch() >= self.recipe.optimise.patience
        )

    def _save_best(self) -> None:
        classifier = self.trainee.classifier
        partial = self.run / f"{BEST}.partial"
        save_file({name: t.contiguous() for name, t in trainable_state(classifier).items()}, partial)
        partial.replace(self.run / BEST)
        if self.recipe.model.lora:
            from amf.training.lora import save_adapter  # PEFT takes seconds to import

            save_adapter(classifier.backbone, self.run / ADAPTER)

    def _state(self) -> dict[str, Any]:
        return {
            "identity": self._identity(),
            "epoch": self.epoch,
            "history": self.history,
            "hard": None if self.hard is None else torch.from_numpy(self.hard),
            "weights": trainable_state(self.trainee),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch, "_step_count": self.schedule._step_count},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        if state["identity"] != self._identity():
            raise DataError(
                f"{self.run} holds a checkpoint of another recipe, table or split: choose another folder"
            )
        self.epoch, self.history = state["epoch"], state["history"]
        self.hard = None if state["hard"] is None else state["hard"].numpy()
        _copy(state["weights"], trainable_state(self.trainee))
        _copy(state["average"], self.average)
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict({**self.schedule.state_dict(), **state["schedule"]})
        rate = self._rate(self.schedule.last_epoch)
        for group in self.optimiser.param_groups:
            group["lr"] = group["initial_lr"] * rate

    def _identity(self) -> str:
        """What must be the same for a checkpoint to continue this run."""
        rows = [self.train.tolist(), self.monitor.tolist()]
        return json.dumps([self.recipe.model_dump(mode="json"), self.figures.table_hash, rows])

    def _report(self, values: dict[str, float], board: SummaryWriter) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, int(values["epoch"]))
        (self.run / HISTORY).write_text(json.dumps(self.history, indent=1) + "\n")
        remaining = (self.recipe.optimise.epochs - self.epoch) * self.draws / values["patches_per_s"]
        print(
            f"epoch {self.epoch}/{self.recipe.optimise.epochs}: train loss {values['train_loss']:.4f}, "
            f"monitor loss {values['loss']:.4f}, AUC {values['auc']:.4f}, "
            f"BA {values['balanced_accuracy']:.4f}; {values['patches_per_s']:.0f} patches/s, "
            f"{remaining / 60:.1f} min left",
            flush=True,
        )


@torch.inference_mode()
def logits_of(
    trainee: Trainee, figures: Figures, rows: Rows, recipe: Recipe, device: torch.device, views: int = 1
) -> NDArray[np.float64]:
    """Logits (n,) of some rows by the network as it stands, in evaluation mode, without augmentation."""
    trainee.eval()
    parts = [
        score(trainee.classifier, figures.batch(part).to(device), recipe.model.image, views, torch.float32)
        for part in np.array_split(rows, max(1, len(rows) // 128))
    ]
    return torch.cat(parts).numpy()


def _accelerator(recipe: Recipe) -> Accelerator:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precisions = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "no"}
    automatic = recipe.optimise.precision == "auto"
    dtype = compute_dtype(torch.bfloat16, device) if automatic else torch.float32
    return Accelerator(
        mixed_precision=precisions[dtype],
        gradient_accumulation_steps=recipe.optimise.accumulate,
        step_scheduler_with_optimizer=False,
    )


def _hold_frozen_part_once(trainee: nn.Module, accelerator: Accelerator) -> None:
    """Keep frozen weights in the compute type alone: a second copy in float32 would double their memory."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
    if dtype is not None:
        for parameter in trainee.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)


def _view(field_of_view_px: int, input_px: int) -> View:
    """Augment at the network's size where that is smaller, at the patch's own where it is larger."""
    return View(field_of_view_px, min(field_of_view_px, input_px))


def _seed(*position: int) -> int:
    return int(np.random.SeedSequence(position).generate_state(1)[0])


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in target.items():
            tensor.copy_(source[name])
