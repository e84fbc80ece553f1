"""A data recipe carried out: patch table, packed patches, counts, pictures."""

from pathlib import Path

from pandas import DataFrame

from amf.data.overview import count_removed, count_table, describe_table, draw_examples, draw_prevalence
from amf.data.packed import pack
from amf.data.recipe import DataRecipe
from amf.data.table import stack, write_removed, write_table


def prepare(recipe: DataRecipe, root: Path, out: Path, skip_bad: bool = False) -> None:
    """Write table.csv, table.removed.csv, patches.npy and .json, and two PNG files into a folder.

    Raises
    ------
    DataError : a file is missing or, unless `skip_bad`, a row or an image is not usable.
    """
    reading = recipe.read(root, skip_bad)
    for note in reading.notes:
        print(note)
    # Before packing: the counts of the label tables stand even where patches turn out to be missing.
    _print_counts(reading.table)

    packed = pack(reading.table, root, out / "patches.npy", skip_bad=skip_bad)
    table = packed.rows(reading.table)
    if len(packed.removed):
        print("\nAfter packing:")
        _print_counts(table)
    removed = stack([reading.removed, packed.removed])

    write_table(table, out / "table.csv")
    sidecar = write_removed(removed, out / "table.csv")
    draw_examples(table, packed.patches, out / "contact-sheet.png")
    draw_prevalence(table, out / "prevalence.png")
    if len(removed):
        print(f"\n{len(removed)} rows left out, each listed in {sidecar}:")
        print(count_removed(removed).to_string(index=False))
    print(f"\n{out / 'table.csv'}: {len(table)} rows, hash {packed.table_hash}")


def _print_counts(table: DataFrame) -> None:
    print(describe_table(table))
    for column in ("dataset", "domain"):
        print(f"\n{count_table(table, column).rename_axis(column).to_string()}")
