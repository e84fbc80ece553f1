"""`amf ablate`: the paper's Table 1, a baseline and twelve variants over five folds."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import open_figures
from amf.experiments.ablation import CELLS, FOLDS, TABLE, collect_ablation, run_ablation
from amf.training.recipe import read_recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML recipe; each row sets its own augmentation and mixup")
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the folds and the table")
    parser.add_argument("--cell", choices=CELLS, help="run this row alone, and join nothing")
    parser.add_argument(
        "--fold", type=int, metavar="K", help=f"run this fold alone, 0 to {FOLDS - 1}, and join nothing"
    )
    parser.add_argument("--collect", action="store_true", help="join the finished folds, run nothing")


def run(arguments: Namespace) -> int:
    """Run cells and folds, or join them; prints the table."""
    recipe, figures, out = read_recipe(arguments.recipe), open_figures(arguments.data), arguments.out
    if not arguments.collect:
        cells = list(CELLS) if arguments.cell is None else [arguments.cell]
        run_ablation(recipe, figures, out, cells, arguments.fold)
        if arguments.cell is not None or arguments.fold is not None:
            return 0
    if PartialState().is_main_process:
        collect_ablation(recipe, figures, out, list(CELLS))
        print((out / f"{TABLE}.md").read_text(encoding="utf-8"))
    return 0
