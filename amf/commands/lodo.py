"""`amf lodo`: leave one domain out, for a network, an ensemble or a grid; compare two such runs."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import open_figures
from amf.data.splits import leave_one_domain_out
from amf.errors import DataError, RecipeError
from amf.experiments.folds import slug
from amf.experiments.lodo import (
    DEFINITIONS,
    SUMMARY,
    collect_lodo,
    compare_lodo,
    ensemble,
    member_folder,
    rank,
    read_lodo,
    run_fold_of,
    score_domains,
)
from amf.experiments.preflight import check_before_run
from amf.experiments.record import markdown, with_mean_and_std
from amf.files import folder_to_write, write_text, written_whole
from amf.training.recipe import read_grid


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "recipe",
        type=Path,
        nargs="*",
        help="YAML recipes, the members of one ensemble; a single one may have a grid",
    )
    parser.add_argument("--data", type=Path, help="folder that `amf data` wrote")
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder for the folds and their summary"
    )
    parser.add_argument(
        "--fold",
        type=int,
        metavar="K",
        help="run this fold alone, from 0, and join nothing; folds of all members and combinations are "
        "numbered through",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="a member each, in place of the recipe's own seed"
    )
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
    if not arguments.recipe or arguments.data is None:
        raise DataError("`amf lodo` needs a recipe and --data, or --compare with two folders")
    out, grids = arguments.out, [read_grid(path) for path in arguments.recipe]
    if all(len(grid) == 1 for grid in grids):
        ensembles = {out: ensemble([recipe for (recipe,) in grids], arguments.seeds)}
    elif len(grids) == 1:
        ensembles = {out / slug(recipe.name): ensemble([recipe], arguments.seeds) for recipe in grids[0]}
    else:
        raise RecipeError("several recipes are the members of one ensemble, expected none with a grid")

    figures = open_figures(arguments.data)
    if not arguments.collect:
        jobs = [
            (member, member_folder(place, members, member), split)
            for place, members in ensembles.items()
            for member in members
            for split in leave_one_domain_out(figures.table)
        ]
        if arguments.fold is not None and not 0 <= arguments.fold < len(jobs):
            raise DataError(f"--fold is {arguments.fold}, expected 0 to {len(jobs) - 1}")
        chosen = jobs if arguments.fold is None else [jobs[arguments.fold]]
        check_before_run((member for member, _, _ in chosen), len(figures.domains))
        for member, folder, split in chosen:
            run_fold_of(member, figures, folder, split)
    if arguments.fold is not None or not PartialState().is_main_process:
        return 0

    summaries = {}
    for place, members in ensembles.items():
        done = collect_lodo(members, figures, place)
        summaries[place.name] = with_mean_and_std(score_domains(done.predictions))
        print((place / f"{SUMMARY}.md").read_text(encoding="utf-8"))
    if len(summaries) > 1:
        ranking = rank(summaries)
        with written_whole(out / "ranking.csv") as partial:
            ranking.to_csv(partial, index_label="combination")
        _show(markdown(ranking, "combination") + "\n" + DEFINITIONS, out / "ranking.md")
    return 0


def _compare(first: Path, second: Path, out: Path) -> None:
    table, sentence = compare_lodo(read_lodo([first]).predictions, read_lodo([second]).predictions)
    text = f"A = {first.name}, B = {second.name}.\n\n{markdown(table, 'domain')}\n{sentence}\n\n{DEFINITIONS}"
    _show(text, out / "comparison.md")


def _show(text: str, path: Path) -> None:
    write_text(path, text)
    print(text)
