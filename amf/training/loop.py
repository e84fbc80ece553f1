"""The training loop: one recipe, one split, one run folder.

Runs as it is on a CPU, a GPU, or under `accelerate launch` on several. Everything random in an epoch is a
function of (seed, epoch, batch, process), so a killed and resumed run ends as if nothing had happened: on the
CPU bit for bit, on a GPU up to the order in which its kernels add.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from amf.data.figures import Figures
from amf.errors import DataError
from amf.evaluation.metrics import recalls
from amf.files import write_text
from amf.training.batches import Batch, Batches, Rows, Task, hard_mask
from amf.training.learner import CHECKPOINT, Learner, accelerator_for, load_checkpoint, save_checkpoint
from amf.training.losses import (
    SupervisedContrastiveLoss,
    adaptive_focal_loss,
    domain_loss,
    positive_class_weight,
    reversal_ramp,
)
from amf.training.recipe import Recipe, write_recipe

HISTORY = "history.json"
CONTRASTIVE = SupervisedContrastiveLoss()
REPORT_EVERY = 10
"""Batches between two looks at the loss: on a GPU each look waits for all work in flight."""


@dataclass(frozen=True)
class Outcome:
    """The result of a finished run; its best weights are in learner.BEST in the run folder.

    Attributes
    ----------
    best_epoch : the one that was kept, from 0. best_loss : its loss on the monitor split.
    history : the values of each epoch.
    """

    best_epoch: int
    best_loss: float
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
    task, optimise = Task(recipe, figures, train, monitor), recipe.optimise
    if (run / CHECKPOINT).exists() and not resume:
        raise DataError(f"{run} holds a run already: resume it, or choose another folder")
    accelerator = accelerator_for(optimise)
    task.patches_at_once(accelerator.num_processes)  # refused before anything is built
    learner = Learner(recipe, len(figures.domains), accelerator)
    history: list[dict[str, float]] = []
    hard: NDArray[np.bool_] | None = None
    run.mkdir(parents=True, exist_ok=True)
    if resume and (state := load_checkpoint(run)) is not None:
        if not task.has_identity(state["identity"]):
            raise DataError(
                f"{run} holds a checkpoint of another recipe, table or split: choose another folder"
            )
        learner.restore(state)
        history, hard = state["history"], None if state["hard"] is None else state["hard"].numpy()
    board = None
    if accelerator.is_main_process:
        write_recipe(recipe, run / "recipe.yaml")
        board = SummaryWriter(run / "tensorboard", purge_step=len(history))

    for epoch in range(len(history), optimise.epochs):
        if out_of_patience(history, optimise.monitor, optimise.patience):
            break
        values = train_epoch(task, learner, epoch, hard)
        with learner.averaged():
            values |= measure(learner.logits(figures, monitor), figures.label[monitor], task.labels[monitor])
            if recipe.sampling.hard_mining:
                hard = hard_mask(expit(learner.logits(figures, train)), task.labels[train])
            history.append(values)
            if accelerator.is_main_process and best_so_far(history, optimise.monitor) == epoch:
                learner.save_best(run)
        if board is not None:
            report_epoch(task, history, run, board)
            mined = None if hard is None else torch.from_numpy(hard)
            progress = {"identity": task.identity(), "epoch": epoch + 1, "history": history, "hard": mined}
            save_checkpoint(run, {**progress, **learner.state()})
        accelerator.wait_for_everyone()
    if board is not None:
        board.close()
    best = best_so_far(history, optimise.monitor)
    return Outcome(best, history[best]["loss"], history)


def train_epoch(task: Task, learner: Learner, epoch: int, hard: NDArray[np.bool_] | None) -> dict[str, float]:
    """Learn from one epoch's draws; the means of the loss's terms, and how fast it went.

    Raises DataError once the loss is not finite.
    """
    recipe, optimise = task.recipe, task.recipe.optimise
    process, processes = learner.process, learner.processes
    # dropout draws from the global generator
    torch.manual_seed(int(np.random.SeedSequence((optimise.seed, epoch, process)).generate_state(1)[0]))
    drawn = task.drawn(epoch, hard)
    counted = torch.from_numpy(task.labels[drawn if recipe.loss.adaptive_over == "drawn" else task.train])
    positive = positive_class_weight(counted) if recipe.loss.adaptive_weight else 1.0

    learner.model.train()
    batches = Batches(task, epoch, drawn, process, processes, learner.device)
    hidden = None if process == 0 else True  # None: shown on a terminal only
    progress = tqdm(batches, desc=f"epoch {epoch + 1}", unit="batch", leave=False, disable=hidden)
    sums: dict[str, Tensor] = {}
    started = time.perf_counter()
    for number, batch in enumerate(progress, start=1):
        step = epoch * task.steps_per_epoch + (number - 1) // optimise.accumulate
        rate = learning_rate(step, task.total_steps, optimise.warmup, optimise.learning_rate)
        with learner.accelerator.accumulate(learner.model):
            terms = loss_terms(task, learner, batch, positive, done=step / task.total_steps)
            learner.learn(terms["loss"], rate, step)
        sums = {name: sums.get(name, 0.0) + term.detach() for name, term in terms.items()}
        if number % REPORT_EVERY == 0 or number == len(batches):
            loss, seconds = sums["loss"].item() / number, time.perf_counter() - started
            if not math.isfinite(loss):
                raise DataError(f"the loss is {loss} by batch {number} of epoch {epoch + 1}: lower the rate")
            speed = optimise.batch / optimise.accumulate * number / seconds
            progress.set_postfix(loss=f"{loss:.4f}", lr=f"{rate:.1e}", patches_per_s=f"{speed:.0f}")
    learner.share_statistics()
    means = {f"train_{name}": total.item() / len(batches) for name, total in sums.items()}
    speeds = {"patches_per_s": speed, "data_share": batches.waited_s / seconds}
    return {"epoch": float(epoch), "positive_weight": positive, **means, **speeds}


def loss_terms(task: Task, learner: Learner, batch: Batch, positive: float, done: float) -> dict[str, Tensor]:
    """The weighted terms and, first, their sum (paper, "Model Architecture and Training").

    `positive` is w₊ of the epoch, `done` the share of training that is done.
    """
    weights, (mixed, domains) = task.recipe.loss, batch
    x = mixed.images.contiguous(memory_format=torch.channels_last)
    reversal = reversal_ramp(done) if weights.domain_ramp else 1.0
    logits, embeddings, domain_logits = learner.model(x, reversal)  # autocast inside, float32 out
    terms = {"focal": adaptive_focal_loss(logits, mixed.labels, positive, weights.gamma)}
    if weights.contrastive:
        terms["contrastive"] = weights.contrastive * CONTRASTIVE(embeddings, mixed.labels)
    adversarial = domain_loss(domain_logits, domains, domains[mixed.partners], mixed.lambdas)
    # With weight 0 the term stays in the sum: every process must send a gradient for the domain head.
    terms["domain"] = weights.domain * adversarial
    return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def learning_rate(step: int, total_steps: int, warmup: float, peak: float) -> float:
    """Linear warm-up over the share `warmup` of all steps to `peak`, then half a cosine down to zero.

    A function of the step, from 0, and of nothing else: a resumed run needs no scheduler's state.
    """
    warmup_steps = warmup * total_steps
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    return peak * (0.5 + 0.5 * math.cos(math.pi * (step - warmup_steps) / (total_steps - warmup_steps)))


def measure(
    logits: NDArray[np.float64], label: NDArray[np.float32], target: NDArray[np.float32]
) -> dict[str, float]:
    """The monitor split's values: loss on the `target` trained for, the rest on the label, cut at logit 0.

    Parameters
    ----------
    logits, label, target : (N,); label 1 for AMF, both classes present; target in [0, 1].
    """
    loss = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(target).double()
    )
    amf_recall, nmf_recall = recalls(label, logits >= 0)
    return {
        "loss": loss.item(),
        "auc": float(roc_auc_score(label, logits)),
        "nmf_recall": nmf_recall,
        "amf_recall": amf_recall,
        "balanced_accuracy": (nmf_recall + amf_recall) / 2,
    }


def best_so_far(history: Sequence[Mapping[str, Any]], monitor: str) -> int:
    """The epoch, from 0, with the lowest loss or the highest AUC, of equals the first; or the last of all."""
    if monitor == "last":
        return len(history) - 1
    values = [epoch[monitor] for epoch in history]
    return int(np.argmin(values) if monitor == "loss" else np.argmax(values))


def out_of_patience(history: Sequence[Mapping[str, Any]], monitor: str, patience: int) -> bool:
    """Whether the last `patience` epochs, or more, brought nothing better."""
    return bool(history) and len(history) - 1 - best_so_far(history, monitor) >= patience


def report_epoch(task: Task, history: list[dict[str, float]], run: Path, board: SummaryWriter) -> None:
    """Show and keep the values of the epoch that has just ended, the history's last."""
    values, done = history[-1], len(history)
    for name, value in values.items():
        board.add_scalar(name, value, done - 1)
    write_text(run / HISTORY, json.dumps(history, indent=1) + "\n")
    optimise = task.recipe.optimise
    remaining = (optimise.epochs - done) * task.steps_per_epoch * optimise.batch
    print(
        f"epoch {done}/{optimise.epochs}: train loss {values['train_loss']:.4f}, "
        f"monitor loss {values['loss']:.4f}, AUC {values['auc']:.4f}, "
        f"BA {values['balanced_accuracy']:.4f}; {values['patches_per_s']:.0f} patches/s, "
        f"{remaining / values['patches_per_s'] / 60:.1f} min left",
        flush=True,
    )
