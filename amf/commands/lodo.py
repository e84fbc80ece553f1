"""`amf lodo`: leave one domain out, for one recipe or a grid of them; compare two such runs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import open_figures
from amf.data.splits import leave_one_domain_out
from amf.errors import DataError
from amf.experiments.folds import slug
from amf.experiments.lodo import (
    DEFINITIONS,
    collect_lodo,
    compare,
    rank,
    read_out_of_fold,
    report,
    run_lodo,
)
from amf.experiments.scores import markdown
from amf.files import write_text, written_whole
from amf.training.recipe import override, read_grid


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, nargs="?", help="YAML recipe, which may have a grid")
    parser.add_argument("--data", type=Path, help="folder that `amf data` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the folds and their summary")
    parser.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="run this fold alone, from 0, and join nothing; a grid's folds are numbered through",
    )
    parser.add_argument("--seed", type=int, metavar="N", help="in place of the recipe's own seed")
    parser.add_argument("--collect", action="store_true", help="join the finished folds, run nothing")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar="OUT", help="compare two joined runs instead, second − first"
    )


def run(arguments: Namespace) -> int:
    """Run folds, join them, or compare two runs; prints what it writes."""
    if arguments.compare:
        first, second = arguments.compare
        _compare(first, second, arguments.out)
        return 0
    if arguments.recipe is None or arguments.data is None:
        raise DataError("`amf lodo` needs a recipe and --data, or --compare with two folders")
    recipes, figures, out = read_grid(arguments.recipe), open_figures(arguments.data), arguments.out
    if arguments.seed is not None:
        recipes = [override(recipe, {"optimise.seed": arguments.seed}) for recipe in recipes]
    places = [out] if len(recipes) == 1 else [out / slug(recipe.name) for recipe in recipes]

    if not arguments.collect:
        folds = len(leave_one_domain_out(figures.table))
        jobs = [
            (recipe, place, fold)
            for recipe, place in zip(recipes, places, strict=True)
            for fold in range(folds)
        ]
        if arguments.fold is not None and not 0 <= arguments.fold < len(jobs):
            raise DataError(f"--fold is {arguments.fold}, expected 0 to {len(jobs) - 1}")
        for recipe, place, fold in jobs if arguments.fold is None else [jobs[arguments.fold]]:
            run_lodo(recipe, figures, place, fold)
    if arguments.fold is not None or not PartialState().is_main_process:
        return 0

    runs = {}
    for recipe, place in zip(recipes, places, strict=True):
        runs[place.name] = collect_lodo(recipe, figures, place)
        print(report(recipe, figures, runs[place.name]))
    if len(runs) > 1:
        ranking = rank(runs)
        with written_whole(out / "ranking.csv") as partial:
            ranking.to_csv(partial, index_label="combination")
        _show(markdown(ranking, "combination") + "\n" + DEFINITIONS, out / "ranking.md")
    return 0


def _compare(first: Path, second: Path, out: Path) -> None:
    table, sentence = compare(read_out_of_fold([first]), read_out_of_fold([second]))
    text = f"A = {first.name}, B = {second.name}.\n\n{markdown(table, 'domain')}\n{sentence}\n\n{DEFINITIONS}"
    _show(text, out / "comparison.md")


def _show(text: str, path: Path) -> None:
    write_text(path, text)
    print(text)
