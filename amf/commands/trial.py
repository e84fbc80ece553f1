"""`amf trial`: changed copies of one recipe side by side, cross-validated inside the training data."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from amf.commands.options import Collect, Data, Out, Recipe
from amf.errors import RecipeError

if TYPE_CHECKING:
    from amf.data.figures import Figures
    from amf.experiments.trial import Trial


def run(
    recipe: Recipe,
    data: Data,
    out: Out,
    variant: Annotated[
        str | None, Option(metavar="NAME", help="run this variant alone, and join nothing")
    ] = None,
    fold: Annotated[
        int | None, Option(metavar="K", help="run this fold alone, 0 to 2, and join nothing")
    ] = None,
    collect: Collect = False,
) -> None:
    """Run the recipe and its section `variants` over three folds, or join them; prints the table."""
    from amf.training.recipe import read_variants

    variants = read_variants(recipe)
    from amf.experiments.trial import TABLE, Trial, collect_trial

    run_trial(Trial(variants), data, out, variant, fold, collect, collect_trial, TABLE)


def run_trial(
    trial: "Trial",
    data: Path,
    out: Path,
    variant: str | None,
    fold: int | None,
    collect: bool,
    join: "Callable[[Trial, Figures, Path], object]",
    table: str,
) -> None:
    """Run what is asked for; once all has run, or to collect, join it by `join` and print its table."""
    from accelerate import PartialState

    from amf.data.figures import open_figures
    from amf.experiments.preflight import check_before_run

    figures = open_figures(data)
    if not collect:
        if variant not in (None, *trial.variants):
            raise RecipeError(f"{variant!r} is no row, expected one of {', '.join(trial.variants)}")
        names = list(trial.variants) if variant is None else [variant]
        check_before_run((trial.variants[name] for name in names), len(figures.domains))
        trial.run(figures, out, names, fold)
        if variant is not None or fold is not None:
            return
    if PartialState().is_main_process:
        join(trial, figures, out)
        print((out / f"{table}.md").read_text(encoding="utf-8"))
