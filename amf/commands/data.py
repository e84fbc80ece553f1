"""`amf data`: published data sets → patch table, packed patches, counts to hold against the paper."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.files import folder_to_write


def run(
    recipe: Annotated[Path, Argument(help="YAML file that names the data sets")],
    root: Annotated[Path, Option(metavar="DIR", help="folder that the recipe's paths are relative to")],
    out: Annotated[
        Path,
        Option(parser=folder_to_write, metavar="DIR", help="folder for the table, the patches and the plots"),
    ],
    skip_bad: Annotated[
        bool,
        Option("--skip-bad", help="leave unusable rows and images out, and list them, instead of stopping"),
    ] = False,
) -> None:
    """Write the patch table, the rows removed from it, the packed patches and two plots."""
    from amf.data.recipe import load_data_recipe

    chosen = load_data_recipe(recipe)
    from amf.data.prepare import prepare

    prepare(chosen, root, out, skip_bad)
