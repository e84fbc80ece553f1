"""The augmentation ablation (paper, Augmentation Strategy Evaluation and Table 1)."""

from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame

from amf.data.figures import Figures
from amf.experiments.folds import CrossValidation
from amf.experiments.paper import PAPER_METRICS, TABLE_1
from amf.experiments.plots import draw_ablation
from amf.experiments.trial import collect_trial
from amf.training.recipe import BASELINE

ABLATION = "ablation"


def collect_ablation(runs: Sequence[CrossValidation], figures: Figures, out: Path) -> DataFrame:
    """Join the cells; write their table beside the paper's, and a plot of both; see `collect_trial`.

    As the caption of the paper's table has it, the baseline's means are absolute, the others' are mean
    differences to it, and every std is the configuration's own over the folds (n − 1).
    """
    columns = [f"{metric}{suffix}" for metric in PAPER_METRICS for suffix in ("", " std")]
    rows = {cell: [number for pair in values for number in pair] for cell, values in TABLE_1.items()}
    theirs = DataFrame.from_dict(rows, orient="index", columns=columns).reindex([run.name for run in runs])
    table = collect_trial(runs, figures, out, ABLATION, theirs)
    draw_ablation(table.drop(index=BASELINE), theirs.drop(index=BASELINE), out / f"{ABLATION}.png")
    return table
