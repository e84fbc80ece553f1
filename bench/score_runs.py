"""Score finished runs on a patch table that they have not seen: each alone, and the mean of their logits.

    python -m bench.score_runs DATA RUN [RUN ...] [--lodo DIR ... | --threshold P]

DATA is a folder that `amf data` wrote, RUN one that `amf fit` or `amf final` trained, DIR one that `amf lodo`
has joined. Figures are called at the threshold of the out-of-fold predictions in all DIR together, their
logits averaged, as `amf final` fits it; without any, at P on sigmoid(logit), .5 unless told. Intervals are
of 95 %, over slides. Every reading of a test set belongs into docs/experiments/test-set-readings.md.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.special import expit

from amf.data.figures import open_figures
from amf.evaluation.bootstrap import intervals
from amf.evaluation.metrics import metrics_of
from amf.evaluation.summary import span
from amf.evaluation.threshold import fit_threshold
from amf.experiments.folds import held_out_logits
from amf.experiments.lodo import read_lodo

METRICS = ("balanced_accuracy", "roc_auc")
REPLICATES = 2000


def main() -> int:
    """Score and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    threshold_of = parser.add_mutually_exclusive_group()
    threshold_of.add_argument("--lodo", type=Path, nargs="+", metavar="DIR")
    threshold_of.add_argument("--threshold", type=float, default=0.5, metavar="P")
    arguments = parser.parse_args()
    threshold = arguments.threshold
    if arguments.lodo:
        lodo = read_lodo(arguments.lodo)
        threshold = fit_threshold(lodo.predictions.assign(confidence=expit(lodo.predictions["logit"]))).value
        print(f"threshold {threshold:.3f}, of {lodo.names}")
    figures = open_figures(arguments.data)
    print(f"table {figures.table_hash[:12]}, {len(figures.table)} figures")
    logits = {
        str(run): held_out_logits(run, figures, np.arange(len(figures.table))) for run in arguments.runs
    }
    for name, values in {**logits, "all averaged": np.mean(list(logits.values()), axis=0)}.items():
        scored = figures.table[["label", "slide"]].assign(
            confidence=expit(values), predicted=(expit(values) >= threshold).astype(int)
        )
        ours, bounds = metrics_of(scored), intervals(scored, REPLICATES, seed=0)
        print(name, *(f"{metric} {ours[metric]:.4f} ({span(bounds[metric])})" for metric in METRICS))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
