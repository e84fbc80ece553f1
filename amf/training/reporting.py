"""What a run leaves for a person after each epoch: a line, TensorBoard, and the history as JSON."""

import json
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from amf.files import write_text
from amf.training.task import Task

HISTORY = "history.json"


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
