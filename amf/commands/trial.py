"""`amf trial`: changed copies of one recipe side by side, cross-validated inside the training data."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import Figures, open_figures
from amf.errors import RecipeError
from amf.experiments.preflight import check_before_run
from amf.experiments.trial import FOLDS, TABLE, Trial, collect_trial
from amf.files import folder_to_write
from amf.training.recipe import read_variants


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML recipe with a section `variants`")
    add_trial_arguments(parser, "variant", FOLDS)


def run(arguments: Namespace) -> int:
    """Run variants and folds, or join them; prints the table."""
    return run_trial(arguments, Trial(read_variants(arguments.recipe)), collect_trial, TABLE)


def add_trial_arguments(parser: ArgumentParser, variant: str, folds: int) -> None:
    """Declare what a trial and the ablation, which is one, share; `variant` is what a row is called."""
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder for the folds and the table"
    )
    parser.add_argument(
        f"--{variant}", dest="variant", metavar="NAME", help=f"run this {variant} alone, and join nothing"
    )
    parser.add_argument(
        "--fold", type=int, metavar="K", help=f"run this fold alone, 0 to {folds - 1}, and join nothing"
    )
    parser.add_argument("--collect", action="store_true", help="join the finished folds, run nothing")


def run_trial(
    arguments: Namespace, trial: Trial, join: Callable[[Trial, Figures, Path], object], table: str
) -> int:
    """Run what is asked for; once all has run, or with --collect, join it by `join` and print its table."""
    figures, variant = open_figures(arguments.data), arguments.variant
    if not arguments.collect:
        if variant not in (None, *trial.variants):
            raise RecipeError(f"{variant!r} is no row, expected one of {', '.join(trial.variants)}")
        names = list(trial.variants) if variant is None else [variant]
        check_before_run((trial.variants[name] for name in names), len(figures.domains))
        trial.run(figures, arguments.out, names, arguments.fold)
        if variant is not None or arguments.fold is not None:
            return 0
    if PartialState().is_main_process:
        join(trial, figures, arguments.out)
        print((arguments.out / f"{table}.md").read_text(encoding="utf-8"))
    return 0
