"""`amf predict`: folders, files, globs or tables of patches and stacks in; one table out."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import ByContent, Device, Members, Model, Views
from amf.errors import DataError
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
    model: Model = None,
    by_content: ByContent = False,
    device: Device = "auto",
    members: Members = None,
    views: Views = None,
) -> None:
    """Score everything into one table; what cannot be scored is listed beside it, and is an error."""
    from amf.bulk.items import find_items
    from amf.bulk.merge import TABLE_SUFFIXES
    from amf.bulk.ranks import rank_and_world
    from amf.bulk.run import open_predictor, raise_faults, score_and_merge

    if output.suffix not in TABLE_SUFFIXES:
        raise DataError(f"{output} is to be the table, expected a name in {', '.join(TABLE_SUFFIXES)}")
    if output.exists():
        raise DataError(f"{output} exists already: delete it, or name another output")
    rank, world = rank_and_world()
    found = find_items(inputs, root)
    if found.others:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(found.others.items()))
        print(f"{found.others.total()} files are no images by their suffix and are left out: {kinds}")
    predictor, digest = open_predictor(model, device, members, views)
    outcome = score_and_merge(found.items, predictor, digest, output, rank, world, by_content=by_content)
    if outcome is not None:
        raise_faults(outcome, len(found.items), output)
