"""`amf predict`: folders, files, globs or tables of patches and stacks in; one table out."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import ByContent, Columns, Device, Members, Model, Shard, Views, pairs
from amf.files import file_to_write


def run(
    inputs: Annotated[
        list[str],
        Argument(
            metavar="INPUT...",
            help="folder, patch (PNG, …), stack (TIFF, MHA), quoted glob, table of images (.csv, .parquet)",
        ),
    ],
    output: Annotated[
        Path,
        Option(parser=file_to_write, metavar="TABLE", help=".csv, .parquet or .json"),
    ],
    root: Annotated[
        Path | None, Option(metavar="DIR", help="of a table's images; by default the table's folder")
    ] = None,
    column: Columns = None,
    model: Model = None,
    by_content: ByContent = False,
    device: Device = "auto",
    members: Members = None,
    views: Views = None,
    shard: Shard = None,
) -> None:
    """Score everything into one table; what cannot be scored is listed beside it, and is an error."""
    from amf.bulk.items import TRUTH_COLUMNS, find_items
    from amf.bulk.join import TABLE_SUFFIXES, check_output
    from amf.bulk.run import open_scorer

    check_output(output, TABLE_SUFFIXES)
    columns = pairs("--column", column, ("image", *TRUTH_COLUMNS))
    items = find_items(inputs, root, columns)
    open_scorer(model, device, members, views, by_content, shard).score(items, output)
