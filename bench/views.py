"""Accuracy against speed of `--members` and `--views`, on the out-of-fold figures of a LODO run.

    python -m bench.views LODO --data DATA [--model DIR] [--rounds 5]

Each fold's networks score the domain that they have not seen, once in each symmetry of the square, so one
pass gives every number of views. The speeds are those of the bundle of the same members, in alternation.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pandas import DataFrame

from amf.data.figures import Figures, open_figures
from amf.experiments.export import trained_classifier
from amf.experiments.lodo import Lodo, lodo_runs, read_lodo
from amf.experiments.record import MEAN, markdown, with_mean_and_std
from amf.experiments.scores import called, score_domains
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.preprocess import to_input
from amf.model.spec import VIEWS
from amf.model.views import views
from bench.job import ROOT

PATCHES = 512  # scored at a time when the speed is measured


def main() -> int:
    """Score, measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lodo", type=Path, help="folder that `amf lodo` has joined")
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument("--model", type=Path, default=ROOT / "model", help="bundle of the same members")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    figures, lodo = open_figures(arguments.data), read_lodo([arguments.lodo])
    by_symmetry = [
        symmetry_logits(lodo, number, figures, arguments.lodo) for number in range(len(lodo.members))
    ]
    patches = figures.batch(np.arange(PATCHES)).numpy()
    speeds = measured_speeds(bundle.load(arguments.model), patches, arguments.rounds)
    rows = {}
    for (count, most), speed in speeds.items():
        means = [logits[:, : min(most, logits.shape[1])].mean(1) for logits in by_symmetry[:count]]
        scored = with_mean_and_std(
            score_domains(called(lodo.predictions.assign(logit=np.mean(means, axis=0))))
        )
        rows[f"{count} x {most}"] = {
            "AUC": scored.loc[MEAN, "AUC"],
            "BA": scored.loc[MEAN, "BA fitted"],
            "patches a second": speed,
        }
    print(markdown(DataFrame.from_dict(rows, orient="index"), "members x views"))
    return 0


def symmetry_logits(lodo: Lodo, number: int, figures: Figures, out: Path) -> NDArray[np.float64]:
    """Logits (n, views) of a member in each symmetry it ships with, in the order of the predictions."""
    run = lodo_runs([member.recipe for member in lodo.members], figures, out)[number]
    return np.concatenate(
        [_held_out(run.folder_of(k), figures, split.held_out) for k, split in enumerate(run.splits)]
    )


@torch.inference_mode()
def _held_out(run: Path, figures: Figures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    recipe, classifier = trained_classifier(run)
    classifier = classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = []
    for batch in figures.batches(rows):
        x = to_input(batch, recipe.model.image)
        seen = views(x.contiguous(memory_format=torch.channels_last), recipe.model.views)
        parts.append(torch.stack([classifier(view)[0] for view in seen], dim=1).double().numpy())
    return np.concatenate(parts)


def measured_speeds(
    loaded: bundle.Bundle, patches: NDArray[np.uint8], rounds: int
) -> dict[tuple[int, int], float]:
    """Patches a second of each number of members and views, medians; the networks alone, without files."""
    most = max(spec.views for spec in loaded.spec.members)
    choices = [
        (count, number) for count in range(1, len(loaded.members) + 1) for number in VIEWS if number <= most
    ]
    predictors = {choice: Predictor(loaded.narrowed(*choice), "cpu") for choice in choices}
    seconds: dict[tuple[int, int], list[float]] = {choice: [] for choice in choices}
    for round_ in range(rounds + 1):  # the first warms up and is not counted
        for choice, predictor in predictors.items():
            started = time.perf_counter()
            predictor.logits(patches)
            if round_:
                seconds[choice].append(time.perf_counter() - started)
    return {choice: len(patches) / statistics.median(taken) for choice, taken in seconds.items()}


if __name__ == "__main__":
    raise SystemExit(main())
