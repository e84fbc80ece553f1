"""`amf ablate`: the paper's Table 1, our rows beside the paper's, over five folds by slide."""

from typing import Annotated

from typer import Option

from amf.commands.options import Collect, Data, Fold, Out, Recipe


def run(
    recipe: Recipe,
    data: Data,
    out: Out,
    cell: Annotated[str | None, Option(metavar="NAME", help="run this cell alone, and join nothing")] = None,
    fold: Fold = None,
    folds: Annotated[int, Option(min=2, metavar="N", help="how many folds by slide")] = 5,
    collect: Collect = False,
) -> None:
    """Run the recipe and its section `variants` over some folds, or join them; prints the table.

    The rows of recipes/ablation.yaml are those of the paper's Table 1, whose numbers stand beside ours.
    """
    from amf.training.recipe import read_variants

    cells = read_variants(recipe)
    from amf.data.figures import open_figures
    from amf.experiments.ablation import ABLATION, collect_ablation
    from amf.experiments.folds import run_missing
    from amf.experiments.trial import trial_runs

    figures = open_figures(data)
    runs = trial_runs(cells, figures, out, folds, seed_by_fold=False)  # all from the same weights
    if run_missing(runs, figures, "--cell", cell, fold, collect):
        collect_ablation(runs, figures, out)
        print((out / f"{ABLATION}.md").read_text(encoding="utf-8"))
