"""`amf trial`: changed copies of one recipe side by side, cross-validated inside the training data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from amf.commands.options import Collect, Data, Fold, Out, Recipe

if TYPE_CHECKING:
    from amf.data.figures import Figures
    from amf.experiments.folds import CrossValidation


def run(
    recipe: Recipe,
    data: Data,
    out: Out,
    variant: Annotated[
        str | None, Option(metavar="NAME", help="run this variant alone, and join nothing")
    ] = None,
    fold: Fold = None,
    folds: Annotated[int, Option(metavar="N", help="how many folds by slide")] = 3,
    collect: Collect = False,
) -> None:
    """Run the recipe and its section `variants` over some folds, or join them; prints the table."""
    from amf.training.recipe import read_variants

    variants = read_variants(recipe)
    from amf.data.figures import open_figures
    from amf.experiments.trial import TRIAL, collect_trial, trial_runs

    figures = open_figures(data)
    runs = trial_runs(variants, figures, out, folds)
    run_or_join(runs, figures, out, "--variant", variant, fold, collect, collect_trial, TRIAL)


def run_or_join(
    runs: "Sequence[CrossValidation]",
    figures: "Figures",
    out: Path,
    flag: str,
    name: str | None,
    fold: str | None,
    collect: bool,
    join: "Callable[[Sequence[CrossValidation], Figures, Path], object]",
    table: str,
) -> None:
    """Run what is asked for; once all has run, or to collect, join it by `join` and print its table."""
    from accelerate import PartialState

    from amf.experiments.folds import run_missing

    if not collect:
        run_missing(runs, figures, flag, name, fold)
        if name or fold:
            return
    if PartialState().is_main_process:
        join(runs, figures, out)
        print((out / f"{table}.md").read_text(encoding="utf-8"))
