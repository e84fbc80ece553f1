"""`amf join`: the parts of `amf predict --shard` or `amf slide --shard` in; the whole output out."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.files import file_to_write


def run(
    parts: Annotated[list[Path], Argument(metavar="PART...", help="OUTPUT.K-of-N.part of every share")],
    output: Annotated[
        Path,
        Option(parser=file_to_write, metavar="TABLE", help=".csv, .parquet or .json; of slides .geojson"),
    ],
) -> None:
    """Join the parts of all shares into one table, the same as one process writes; the parts are kept."""
    from amf.bulk.join import join

    joined = join(parts, output)
    print(f"wrote {output} with {joined.rows} figures")
    joined.raise_faults()
