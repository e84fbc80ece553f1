"""`amf ablate`: the paper's Table 1, a baseline and twelve variants over five folds."""

from typing import Annotated

from typer import Option

from amf.commands.options import Collect, Data, Out, Recipe
from amf.commands.trial import run_trial


def run(
    recipe: Recipe,
    data: Data,
    out: Out,
    cell: Annotated[str | None, Option(metavar="NAME", help="run this cell alone, and join nothing")] = None,
    fold: Annotated[
        int | None, Option(metavar="K", help="run this fold alone, 0 to 4, and join nothing")
    ] = None,
    collect: Collect = False,
) -> None:
    """Run the cells of the paper's Table 1 over five folds, or join them; prints the table.

    Each cell sets the recipe's augmentation and MixUp.
    """
    from amf.training.recipe import read_recipe

    base = read_recipe(recipe)
    from amf.experiments.ablation import TABLE, ablation_trial, collect_ablation

    run_trial(ablation_trial(base), data, out, cell, fold, collect, collect_ablation, TABLE)
