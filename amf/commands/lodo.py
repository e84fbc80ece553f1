"""`amf lodo`: leave one domain out, for a network, an ensemble or a grid; rank or compare such runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from amf.commands.options import Collect, Fold, Seeds
from amf.errors import DataError, RecipeError
from amf.files import file_to_write, folder_to_write, write_text

if TYPE_CHECKING:
    from amf.training.recipe import Recipe


def run(
    recipe: Annotated[
        list[Path] | None,
        Argument(help="YAML recipes, the members of one ensemble; a single one may have a grid or variants"),
    ] = None,
    data: Annotated[Path | None, Option(metavar="DIR", help="folder that `amf data` wrote")] = None,
    out: Annotated[
        Path | None,
        Option(metavar="DIR", help="folder for the folds and their summary; with --best the recipe to write"),
    ] = None,
    member: Annotated[
        str | None, Option(metavar="NAME", help="run this member or combination alone, and join nothing")
    ] = None,
    fold: Fold = None,
    seeds: Seeds = None,
    collect: Collect = False,
    expand: Annotated[
        Path | None, Option(metavar="DIR", help="write each combination of a grid as a recipe, run nothing")
    ] = None,
    best: Annotated[
        list[Path] | None, Option(metavar="DIR...", help="rank joined runs, write the best one's recipe")
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, Option(metavar="DIR DIR", help="compare two joined runs, second − first")
    ] = None,
) -> None:
    """Leave each domain out in turn and join the folds, or rank or compare runs; prints what it writes."""
    if expand:
        _expand(recipe or [], expand)
    elif out is None:
        raise DataError("`amf lodo` needs --out")
    elif best:
        _choose(best, file_to_write(str(out)))
    elif compare:
        _compare(*compare, folder_to_write(str(out)))
    elif recipe and data:
        _run(_ensembles(recipe, seeds, folder_to_write(str(out))), data, member, fold, collect)
    else:
        raise DataError("`amf lodo` needs a recipe and --data, or --best, --compare or --expand")


def _expand(files: list[Path], folder: Path) -> None:
    from amf.experiments.folds import slug
    from amf.training.recipe import read_recipes, write_recipe

    for recipe in [recipe for path in files for recipe in read_recipes(path)]:
        write_recipe(recipe, path := folder / f"{slug(recipe.name)}.yaml")
        print(path)


def _ensembles(paths: list[Path], seeds: list[int] | None, out: Path) -> "dict[Path, list[Recipe]]":
    """The members by folder: one ensemble, or one for each combination of a grid."""
    from amf.training.recipe import read_recipes

    files = [read_recipes(path) for path in paths]
    if len(files) > 1 and any(len(recipes) > 1 for recipes in files):
        raise RecipeError("several recipes are the members of one ensemble, expected none with a grid")
    from amf.experiments.folds import slug
    from amf.experiments.lodo import ensemble

    if len(files[0]) == 1:
        return {out: ensemble([recipe for (recipe,) in files], seeds)}
    return {out / slug(recipe.name): ensemble([recipe], seeds) for recipe in files[0]}


def _run(
    ensembles: "dict[Path, list[Recipe]]", data: Path, member: str | None, fold: str | None, collect: bool
) -> None:
    from amf.data.figures import open_figures
    from amf.data.splits import leave_one_domain_out
    from amf.experiments.folds import run_missing
    from amf.experiments.lodo import CHOSEN, SUMMARY, collect_lodo, lodo_runs

    figures = open_figures(data)
    leave_one_domain_out(figures.table)  # refuses a table of one domain, of which `amf final` takes slides
    runs = [run for out, members in ensembles.items() for run in lodo_runs(members, figures, out)]
    if not run_missing(runs, figures, "--member", member, fold, collect):
        return
    for out, members in ensembles.items():
        collect_lodo(members, figures, out)
        print((out / f"{SUMMARY}.md").read_text(encoding="utf-8"))
    if len(ensembles) > 1:
        _choose(list(ensembles), out.with_name(CHOSEN))


def _choose(folders: list[Path], target: Path) -> None:
    from amf.experiments.lodo import RANKING, choose_best

    choose_best(folders, target)
    print(target.with_name(f"{RANKING}.md").read_text(encoding="utf-8"))


def _compare(first: Path, second: Path, out: Path) -> None:
    from amf.experiments.lodo import read_lodo
    from amf.experiments.record import markdown
    from amf.experiments.scores import DEFINITIONS, compare_lodo

    table, sentence = compare_lodo(read_lodo([first]).predictions, read_lodo([second]).predictions)
    text = f"A = {first.name}, B = {second.name}.\n\n{markdown(table, 'domain')}\n{sentence}\n\n{DEFINITIONS}"
    write_text(out / "comparison.md", text)
    print(text)
