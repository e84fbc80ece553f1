"""`amf lodo`: leave one domain out, for a network, an ensemble or a grid; compare two such runs."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import Collect, Data, Out, Seeds
from amf.errors import DataError, RecipeError
from amf.files import write_text, written_whole


def run(
    out: Out,
    recipe: Annotated[
        list[Path] | None,
        Argument(help="YAML recipes, the members of one ensemble; a single one may have a grid"),
    ] = None,
    data: Data | None = None,
    fold: Annotated[
        int | None,
        Option(
            metavar="K",
            help="run this fold alone, from 0, and join nothing; folds of all members and combinations are "
            "numbered through",
        ),
    ] = None,
    seeds: Seeds = None,
    collect: Collect = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        Option(metavar="OUT OUT", help="compare two joined runs instead, second − first"),
    ] = None,
) -> None:
    """Leave each domain out in turn, join the folds, or compare two runs; prints what it writes."""
    if compare:
        _compare(*compare, out)
        return
    if not recipe or data is None:
        raise DataError("`amf lodo` needs a recipe and --data, or --compare with two folders")
    from amf.training.recipe import read_grid

    grids = [read_grid(path) for path in recipe]
    from accelerate import PartialState

    from amf.data.figures import open_figures
    from amf.data.splits import leave_one_domain_out
    from amf.experiments.folds import slug
    from amf.experiments.lodo import (
        DEFINITIONS,
        SUMMARY,
        collect_lodo,
        ensemble,
        member_folder,
        rank,
        run_fold_of,
        score_domains,
    )
    from amf.experiments.preflight import check_before_run
    from amf.experiments.record import markdown, with_mean_and_std

    if all(len(grid) == 1 for grid in grids):
        ensembles = {out: ensemble([one for (one,) in grids], seeds)}
    elif len(grids) == 1:
        ensembles = {out / slug(one.name): ensemble([one], seeds) for one in grids[0]}
    else:
        raise RecipeError("several recipes are the members of one ensemble, expected none with a grid")

    figures = open_figures(data)
    if not collect:
        jobs = [
            (member, member_folder(place, members, member), split)
            for place, members in ensembles.items()
            for member in members
            for split in leave_one_domain_out(figures.table)
        ]
        if fold is not None and not 0 <= fold < len(jobs):
            raise DataError(f"--fold is {fold}, expected 0 to {len(jobs) - 1}")
        chosen = jobs if fold is None else [jobs[fold]]
        check_before_run((member for member, _, _ in chosen), len(figures.domains))
        for member, folder, split in chosen:
            run_fold_of(member, figures, folder, split)
    if fold is not None or not PartialState().is_main_process:
        return

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


def _compare(first: Path, second: Path, out: Path) -> None:
    from amf.experiments.lodo import DEFINITIONS, compare_lodo, read_lodo
    from amf.experiments.record import markdown

    table, sentence = compare_lodo(read_lodo([first]).predictions, read_lodo([second]).predictions)
    text = f"A = {first.name}, B = {second.name}.\n\n{markdown(table, 'domain')}\n{sentence}\n\n{DEFINITIONS}"
    _show(text, out / "comparison.md")


def _show(text: str, path: Path) -> None:
    write_text(path, text)
    print(text)
