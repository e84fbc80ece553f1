"""Part files → one table, in the order of the items, whole or not at all."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from amf.bulk.items import Item
from amf.bulk.parts import chunks_of, line_count, part_path
from amf.errors import DataError
from amf.files import written_whole
from amf.inference.predict import Predictor

TABLE_SUFFIXES = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Outcome:
    """A finished table: the figures in it, and (image, reason) for every file that could not be scored."""

    figures: int
    faults: list[tuple[str, str]]


class Scored(NamedTuple):
    """One figure and its logit; `page` counts from 0 within its item, the `number`-th of the items."""

    number: int
    page: int
    logit: float


Write = Callable[[Path, Iterator[list[Scored]]], int]
"""Writes the figures of each chunk, in the items' order, to a file; returns how many there were."""


def merge(
    items: Sequence[Item], predictor: Predictor, output: Path, world: int = 1, write: Write | None = None
) -> Outcome | None:
    """Write the table once every rank is through, and remove the part files.

    Whichever rank finds all parts complete writes the table. Should two find so at once, both write the same
    table, and the one that comes second to the part files leaves the other's alone.

    Parameters
    ----------
    write : what fills the file; by default `table_writer`, in the format that the output's suffix names.

    Returns
    -------
    What the table holds; None while other ranks are still at work, or when another rank has merged.

    Raises
    ------
    DataError : the table cannot be written.
    """
    chunks = chunks_of(items)
    parts = [part_path(output, rank, world) for rank in range(world)]
    faults: list[tuple[str, str]] = []
    try:
        if not all(line_count(part) == 1 + len(chunks[rank::world]) for rank, part in enumerate(parts)):
            return None
        scored = _merged(items, parts, len(chunks), faults)
        with written_whole(output) as partial:
            figures = (write or table_writer(items, predictor, output.suffix))(partial, scored)
        report = errors_path(output)
        report.unlink(missing_ok=True)
        if faults:
            with written_whole(report) as partial, partial.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("image", "error"), *faults])
        for part in parts:
            part.unlink(missing_ok=True)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError) and output.exists():
            return None  # another rank took the part files away
        raise
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}") from error
    return Outcome(figures, faults)


def errors_path(output: Path) -> Path:
    """Where the files that could not be scored are listed."""
    return output.with_name(f"{output.stem}.errors.csv")


def _merged(
    items: Sequence[Item], parts: list[Path], chunks: int, faults: list[tuple[str, str]]
) -> Iterator[list[Scored]]:
    """The figures of each chunk, in the order of the items; the faults met are appended to `faults`."""
    files = [part.open() for part in parts]
    try:
        for file in files:
            file.readline()  # the header
        for chunk in range(chunks):
            content = json.loads(files[chunk % len(files)].readline())
            faults += [(items[index].image, reason) for index, reason in content["faults"]]
            yield [Scored(*row) for row in content["rows"]]
    finally:
        for file in files:
            file.close()


def table_writer(items: Sequence[Item], predictor: Predictor, suffix: str) -> Write:
    """What writes a table in the format of `suffix`, one of TABLE_SUFFIXES, chunk by chunk."""
    columns = ["image", "page", "class", "confidence", "logit", *(items[0].truth if items else ())]
    writer = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}[suffix]

    def write(path: Path, chunks: Iterator[list[Scored]]) -> int:
        count = 0

        def rows() -> Iterator[list[dict[str, Any]]]:
            nonlocal count
            for chunk in chunks:
                count += len(chunk)
                yield [_row(items[number], page, logit, predictor) for number, page, logit in chunk]

        writer(path, columns, rows())
        return count

    return write


def _row(item: Item, page: int, logit: float, predictor: Predictor) -> dict[str, Any]:
    prediction = predictor.decide(logit)
    return {
        "image": item.image,
        "page": page if item.is_stack else None,
        "class": prediction.label,
        "confidence": prediction.confidence,
        "logit": logit,
        **item.truth,
    }


def _write_csv(path: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for rows in chunks:
            writer.writerows(rows)


def _write_json(path: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    with path.open("w") as file:
        file.write("[")
        separator = "\n"
        for rows in chunks:
            for row in rows:
                file.write(
                    separator + json.dumps({column: row[column] for column in columns}, allow_nan=False)
                )
                separator = ",\n"
        file.write("\n]\n")


def _write_parquet(path: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = dict.fromkeys(["confidence", "logit", "x", "y"], pa.float64())
    types |= {"page": pa.int32(), "label": pa.int64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, schema))
