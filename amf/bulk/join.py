"""Parts → one table in the order of the inputs, whole or not at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amf.bulk.geojson import write_geojson
from amf.bulk.items import printable
from amf.bulk.parts import difference, read_part
from amf.bulk.shares import Share
from amf.errors import DataError, account
from amf.files import written_whole

TABLE_SUFFIXES = (".csv", ".parquet", ".json")
SLIDE_SUFFIXES = (".geojson", ".json", ".csv", ".parquet")
"""Of the outputs of `amf predict` and `amf slide`; JSON of the latter is GeoJSON."""


@dataclass(frozen=True)
class Joined:
    """A finished output: its path, the files or figures given, the rows written, and what was not scored."""

    output: Path
    given: int
    unit: str
    rows: int
    faults: list[dict[str, Any]]

    def raise_faults(self) -> None:
        """Raise one DataError where some could not be scored: how many, and the first."""
        if self.faults:
            first = self.faults[0]
            raise DataError(
                f"{len(self.faults)} of {self.given} {self.unit}s could not be scored and are listed in "
                f"{errors_path(self.output)}; the first is {first['image']}: {first['error']}"
            )


def errors_path(output: Path) -> Path:
    """Where the files that could not be scored are listed."""
    return output.with_name(f"{output.stem}.errors.csv")


def check_suffix(output: Path, suffixes: Sequence[str]) -> None:
    """Refuse an output whose name says no known format, by a DataError."""
    if output.suffix not in suffixes:
        raise DataError(f"{output}: unsupported output suffix, expected one of {', '.join(suffixes)}")


def check_output(output: Path, suffixes: Sequence[str]) -> None:
    """Raise DataError for a suffix of no format, and for an output that is there already."""
    check_suffix(output, suffixes)
    if output.exists():
        raise DataError(f"{output} exists already: delete it, or name another output")


def join(paths: Sequence[Path], output: Path) -> Joined:
    """Write what all shares have scored, in the order of the inputs; the faults and the counts beside it.

    Raises
    ------
    DataError : a share is missing, not finished, given twice or of other inputs than the first; the output is
        there already, or cannot be written.
    """
    header, lines = _all_shares(paths)
    check_output(output, SLIDE_SUFFIXES if "outline" in header else TABLE_SUFFIXES)
    rows = sorted((row for line in lines for row in line["rows"]), key=lambda row: row["number"])
    faults = sorted((fault for line in lines for fault in line["faults"]), key=lambda fault: fault["number"])
    account("files of all parts", header["given"], len({row["number"] for row in rows}), len(faults))
    with written_whole(output) as partial:
        if "outline" in header and output.suffix in (".geojson", ".json"):
            write_geojson(partial, header["outline"], {row["number"]: row for row in rows}, header["model"])
        else:
            _write_table(partial, rows, header["columns"], output.suffix)
        if faults:
            with written_whole(errors_path(output)) as listed:
                _write_table(listed, faults, ["image", "error"], ".csv")
        else:
            errors_path(output).unlink(missing_ok=True)
    if header.get("regions"):
        from amf.bulk import area  # imports shapely: tables of patches need none

        area.write_counts(output, rows, area.regions_from_json(header["regions"]))
    return Joined(output, header["given"], header["unit"], len(rows), faults)


def _all_shares(paths: Sequence[Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The header that all parts have in common, and the lines of all their chunks."""
    shares: dict[int, Path] = {}
    lines: list[dict[str, Any]] = []
    first: dict[str, Any] = {}
    for path in paths:
        header, chunks = read_part(path)
        if not header:
            raise DataError(f"{path} is no part of `--shard`, or not there")
        first = first or header
        share = Share(*header["share"])
        if found := difference(first, header):
            raise DataError(f"{path}, share {share}, was begun with {found}, than {paths[0]}: score it again")
        if share.count != first["share"][1]:
            raise DataError(f"{path} is share {share}, but {paths[0]} is share {Share(*first['share'])}")
        if share.number in shares:
            raise DataError(f"{path} and {shares[share.number]} are both share {share}, expected each once")
        if missing := {*share.of(range(first["chunks"]))} - chunks.keys():
            raise DataError(
                f"{path}, share {share}, lacks {len(missing)} chunks: run its command again to the end"
            )
        shares[share.number] = path
        lines += chunks.values()
    for number in range(1, first["share"][1] + 1):
        if number not in shares:
            share = Share(number, first["share"][1])
            raise DataError(f"share {share} is missing: score it with --shard {share}, and name its part too")
    return first, lines


def _write_table(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str], suffix: str) -> None:
    """Write rows in the format of `suffix`, one of TABLE_SUFFIXES; each cell keeps its type."""
    if suffix == ".json":
        lines = (json.dumps({name: row[name] for name in columns}, allow_nan=False) for row in rows)
        path.write_text("[" + ",".join(f"\n{line}" for line in lines) + "\n]\n", encoding="utf-8")
        return
    import pandas as pd

    table = {name: [_written(row[name]) for row in rows] for name in columns}
    if suffix == ".csv":
        pd.DataFrame(table, dtype=object).to_csv(path, index=False, lineterminator="\n")
        return
    import pyarrow as pa
    import pyarrow.parquet

    page = {"page": pa.int64()}  # in a table without stacks no page tells its type
    arrays = {name: pa.array(values, page.get(name)) for name, values in table.items()}
    pyarrow.parquet.write_table(pa.table(arrays), path)


def _written(cell: Any) -> Any:
    return printable(cell) if isinstance(cell, str) else cell
