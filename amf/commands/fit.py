"""`amf fit`: train one recipe on the figures that `amf data` packed."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from amf.data.figures import open_figures
from amf.data.splits import monitor_split
from amf.files import folder_to_write
from amf.training.loop import fit
from amf.training.recipe import read_recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML recipe")
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument("--out", type=folder_to_write, required=True, help="run folder")
    parser.add_argument("--resume", action="store_true", help="continue from the run folder's checkpoint")


def run(arguments: Namespace) -> int:
    """Train, and say which epoch was best."""
    recipe, figures = read_recipe(arguments.recipe), open_figures(arguments.data)
    split = monitor_split(figures.table, seed=recipe.optimise.seed)  # 95 % / 5 %, stratified by label
    outcome = fit(recipe, figures, split.train, split.held_out, arguments.out, arguments.resume)
    print(f"best epoch {outcome.best_epoch + 1}: monitor loss {outcome.best_loss:.4f}; {arguments.out}")
    return 0
