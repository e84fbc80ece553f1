"""`amf data`: published data sets → patch table, packed patches, counts to hold against the paper."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from amf.data.overview import count_removed, count_table, describe, draw_examples, draw_prevalence
from amf.data.packed import pack
from amf.data.recipe import load_data_recipe
from amf.data.table import write_removed, write_table
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
    reading = recipe.read(arguments.root, arguments.skip_bad)
    for note in reading.notes:
        print(note)
    # Before packing: the counts of the label tables stand even where patches turn out to be missing.
    _print_counts(reading.table)

    out: Path = arguments.out
    packed = pack(reading.table, arguments.root, out / "patches.npy", skip_bad=arguments.skip_bad)
    table = packed.rows(reading.table)
    if len(packed.removed):
        print("\nAfter packing:")
        _print_counts(table)
    removed = [frame for frame in (reading.removed, packed.removed) if len(frame)]
    all_removed = pd.concat(removed, ignore_index=True) if removed else reading.removed

    write_table(table, out / "table.csv")
    sidecar = write_removed(all_removed, out / "table.csv")
    draw_examples(table, packed.patches, out / "contact-sheet.png")
    draw_prevalence(table, out / "prevalence.png")
    if len(all_removed):
        print(f"\n{len(all_removed)} rows left out, each listed in {sidecar}:")
        print(count_removed(all_removed).to_string(index=False))
    print(f"\n{out / 'table.csv'}: {len(table)} rows, hash {packed.table_hash}")
    return 0


def _print_counts(table: DataFrame) -> None:
    print(describe(table))
    for column in ("dataset", "domain"):
        print(f"\n{count_table(table, column).rename_axis(column).to_string()}")
