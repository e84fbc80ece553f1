"""`amf trial`: changed copies of one recipe side by side, cross-validated inside the training data."""

from typing import Annotated

from typer import Option

from amf.commands.options import Collect, Data, Fold, Out, Recipe


def run(
    recipe: Recipe,
    data: Data,
    out: Out,
    variant: Annotated[
        str | None, Option(metavar="NAME", help="run this variant alone, and join nothing")
    ] = None,
    fold: Fold = None,
    folds: Annotated[int, Option(min=2, metavar="N", help="how many folds by slide")] = 3,
    collect: Collect = False,
) -> None:
    """Run the recipe and its section `variants` over some folds, or join them; prints the table."""
    from amf.training.recipe import read_variants

    variants = read_variants(recipe)
    from amf.data.figures import open_figures
    from amf.experiments.folds import run_missing
    from amf.experiments.trial import TRIAL, collect_trial, trial_runs

    figures = open_figures(data)
    runs = trial_runs(variants, figures, out, folds)
    if run_missing(runs, figures, "--variant", variant, fold, collect):
        collect_trial(runs, figures, out)
        print((out / f"{TRIAL}.md").read_text(encoding="utf-8"))
