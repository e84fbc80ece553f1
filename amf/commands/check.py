"""`amf check`: before a long run, is all of it there and does it fit?"""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.errors import RecipeError


def run(
    recipe: Annotated[list[Path], Argument(help="YAML recipes to be trained, with grid or variants or not")],
    data_set: Annotated[
        list[str] | None, Option(metavar="NAME...", help="data sets that must be in --root, or be fetched")
    ] = None,
    root: Annotated[Path, Option(metavar="DIR", help="folder of the published data sets")] = Path(),
    data: Annotated[
        Path | None, Option(metavar="DIR", help="folder that `amf data` wrote: ten steps are measured on it")
    ] = None,
    runs: Annotated[int, Option(min=1, help="how many runs of each recipe the hours are for")] = 1,
) -> None:
    """Print an answer a line; what keeps a run from starting is an error."""
    from amf.data.figures import open_figures
    from amf.experiments import check
    from amf.training.recipe import Recipe, read_recipes

    networks: dict[str, Recipe] = {}  # each is asked about once, by the first recipe that trains it
    for one in (one for path in recipe for one in read_recipes(path)):
        networks.setdefault(one.model.model_dump_json(), one)
    answers = [check.check_recipe(one) for one in networks.values()]
    answers += [check.check_data_set(name, root) for name in data_set or []]
    downloads = {answer.found: answer.to_come for answer in answers}  # two recipes may share their weights
    answers.append(check.check_disk(root, sum(downloads.values())))
    if data and all(answer.ok for answer in answers):
        figures = open_figures(data)
        answers += [check.check_gpu(one, figures, runs) for one in networks.values()]
    print(*answers, sep="\n", flush=True)
    if missing := [answer for answer in answers if not answer.ok]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise RecipeError(f"not ready: {missing[0].of}: {missing[0].found}{more}")
