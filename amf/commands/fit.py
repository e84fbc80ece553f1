"""`amf fit`: train one recipe on the figures that `amf data` packed."""

from pathlib import Path
from typing import Annotated

from typer import Option

from amf.commands.options import Data, Recipe
from amf.files import folder_to_write


def run(
    recipe: Recipe,
    data: Data,
    out: Annotated[Path, Option(parser=folder_to_write, metavar="DIR", help="run folder")],
    resume: Annotated[bool, Option("--resume", help="continue from the run folder's checkpoint")] = False,
) -> None:
    """Train one recipe, and say which epoch was best."""
    from amf.training.recipe import read_recipe

    chosen = read_recipe(recipe)
    from amf.data.figures import open_figures
    from amf.data.splits import monitor_split
    from amf.training.loop import fit

    figures = open_figures(data)
    split = monitor_split(figures.table, seed=chosen.optimise.seed)  # 95 % / 5 %, stratified by label
    outcome = fit(chosen, figures, split.train, split.held_out, out, resume)
    print(f"best epoch {outcome.best_epoch + 1}: monitor loss {outcome.best_loss:.4f}; {out}")
