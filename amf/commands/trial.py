"""`amf trial`: changed copies of one recipe side by side, cross-validated inside the training data."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import open_figures
from amf.errors import RecipeError
from amf.experiments.trial import FOLDS, TABLE, collect_trial, run_trial
from amf.training.recipe import read_variants


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML recipe with a section `variants`")
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the folds and the table")
    parser.add_argument("--variant", metavar="NAME", help="run this variant alone, and join nothing")
    parser.add_argument(
        "--fold", type=int, metavar="K", help=f"run this fold alone, 0 to {FOLDS - 1}, and join nothing"
    )
    parser.add_argument("--collect", action="store_true", help="join the finished folds, run nothing")


def run(arguments: Namespace) -> int:
    """Run variants and folds, or join them; prints the table."""
    variants, figures = read_variants(arguments.recipe), open_figures(arguments.data)
    if not arguments.collect:
        if arguments.variant not in (None, *variants):
            raise RecipeError(f"--variant is {arguments.variant!r}, expected one of {', '.join(variants)}")
        names = list(variants) if arguments.variant is None else [arguments.variant]
        run_trial(variants, figures, arguments.out, names, arguments.fold)
        if arguments.variant is not None or arguments.fold is not None:
            return 0
    if PartialState().is_main_process:
        collect_trial(variants, figures, arguments.out)
        print((arguments.out / f"{TABLE}.md").read_text(encoding="utf-8"))
    return 0
