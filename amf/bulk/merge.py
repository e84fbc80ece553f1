"""Part files → one table, in the order of the items, whole or not at all."""

import csv
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from amf.bulk.items import Item, truth_types
from amf.bulk.parts import chunks_of, line_count, part_path
from amf.bulk.ranks import held, wait
from amf.errors import DataError, account
from amf.files import written_whole
from amf.inference.predict import Predictor

TABLE_SUFFIXES = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Merged:
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
    items: Sequence[Item],
    predictor: Predictor,
    output: Path,
    rank: int = 0,
    world: int = 1,
    write: Write | None = None,
) -> Merged | None:
    """Wait until every rank is through; rank 0 writes the table and removes the part files.

    Parameters
    ----------
    write : what fills the file; by default `table_writer`, in the format that the output's suffix names.

    Returns
    -------
    What the table holds; None on another rank than 0, once the table is there.

    Raises
    ------
    DataError : the table or the list of faults cannot be written, the parts were begun with different files,
        or no other rank is at work any more though something is missing.
    """
    chunks = chunks_of(items)
    parts = [part_path(output, number, world) for number in range(world)]
    if rank:
        wait(output.exists, parts[:1], f"rank {rank} of {world} is through, but {output} is not there")
        return None

    def complete() -> bool:
        return all(line_count(part) == 1 + len(chunks[k::world]) for k, part in enumerate(parts))

    with held(parts[0]):
        wait(complete, parts[1:], f"rank 0 of {world} is through, but others have not scored their share")
        outcome = _write(
            items, parts, len(chunks), output, write or table_writer(items, predictor, output.suffix)
        )
        for part in parts:
            part.unlink(missing_ok=True)
    return outcome


def _write(items: Sequence[Item], parts: list[Path], chunks: int, output: Path, write: Write) -> Merged:
    """Write the list of faults, if there are any, and the table: both or neither."""
    faults: list[tuple[int, str]] = []
    with written_whole(output) as table:
        figures = write(table, _merged(parts, chunks, faults, len(items)))
        named = [(items[index].image, reason) for index, reason in faults]
        if faults:
            with (
                written_whole(errors_path(output)) as partial,
                partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
            ):
                csv.writer(file, lineterminator="\n").writerows([("image", "error"), *named])
        else:
            errors_path(output).unlink(missing_ok=True)
    return Merged(figures, named)


def errors_path(output: Path) -> Path:
    """Where the files that could not be scored are listed."""
    return output.with_name(f"{output.stem}.errors.csv")


def _merged(
    parts: list[Path], chunks: int, faults: list[tuple[int, str]], count: int
) -> Iterator[list[Scored]]:
    """The figures of each chunk, in the order of the items; the faults met are appended to `faults`.

    At the end, each of the `count` items has figures or a fault, or AccountingError is raised.
    """
    scored = 0
    with ExitStack() as stack:
        files = [stack.enter_context(part.open(encoding="utf-8")) for part in parts]
        if len({file.readline() for file in files}) > 1:  # the headers
            raise DataError(
                f"{parts[0]} and those of the other ranks were begun with different inputs, files or "
                "bundles: delete them to start over"
            )
        for chunk in range(chunks):
            part = chunk % len(files)
            try:
                content = json.loads(files[part].readline())
                rows = [Scored(*row) for row in content["rows"]]
                faults += [(index, reason) for index, reason in content["faults"]]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{parts[part]} is damaged: delete it to score its share again") from error
            scored += len({row.number for row in rows})
            yield rows
    account("files of all parts", count, scored, len(faults))


def table_writer(items: Sequence[Item], predictor: Predictor, suffix: str) -> Write:
    """What writes a table in the format of `suffix`, one of TABLE_SUFFIXES, chunk by chunk."""
    types = {
        "image": str,
        "page": int,
        "class": str,
        "confidence": float,
        "logit": float,
        **truth_types(items),
    }
    writer = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}[suffix]

    def write(path: Path, chunks: Iterator[list[Scored]]) -> int:
        count = 0

        def rows() -> Iterator[list[dict[str, Any]]]:
            nonlocal count
            for chunk in chunks:
                count += len(chunk)
                yield [_row(items[number], page, logit, predictor) for number, page, logit in chunk]

        writer(path, types, rows())
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


def _write_csv(path: Path, columns: Collection[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for rows in chunks:
            writer.writerows(rows)


def _write_json(path: Path, columns: Collection[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        separator = "\n"
        for rows in chunks:
            for row in rows:
                file.write(
                    separator + json.dumps({column: row[column] for column in columns}, allow_nan=False)
                )
                separator = ",\n"
        file.write("\n]\n")


def _write_parquet(path: Path, types: Mapping[str, type], chunks: Iterator[list[dict[str, Any]]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    schema = pa.schema([(column, arrow[kind]) for column, kind in types.items()])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, schema))
