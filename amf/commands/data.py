"""`amf data`: published data sets → patch table, packed patches, counts to hold against the paper."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from amf.data.prepare import prepare
from amf.data.recipe import load_data_recipe
from amf.files import folder_to_write


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML file that names the data sets")
    parser.add_argument(
        "--root", type=Path, required=True, help="folder that the recipe's paths are relative to"
    )
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder for the table, the patches and the plots"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave unusable rows and images out, and list them, instead of stopping",
    )


def run(arguments: Namespace) -> int:
    """Write table.csv, table.removed.csv, patches.npy and .json, and two PNG files below --out."""
    recipe = load_data_recipe(arguments.recipe)
    prepare(recipe, arguments.root, arguments.out, arguments.skip_bad)
    return 0
