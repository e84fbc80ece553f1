"""Part files → one table, in the order of the items, whole or not at all."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amf.bulk.items import Item
from amf.bulk.parts import chunks_of, line_count, part_path
from amf.bulk.read import is_stack
from amf.errors import DataError
from amf.inference.predict import Predictor

TABLE_SUFFIXES = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Outcome:
    """A finished table: the figures in it, and (image, reason) for every file that could not be scored."""

    figures: int
    faults: list[tuple[str, str]]


def merge(items: Sequence[Item], predictor: Predictor, output: Path, world: int = 1) -> Outcome | None:
    """Write the table once every rank is through, and remove the part files.

    Whichever rank finds all parts complete writes the table. Should two find so at once, both write the same
    table, and the one that comes second to the part files leaves the other's alone.

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
        rows = _merged_rows(items, parts, len(chunks), predictor, faults)
        columns = ["image", "page", "class", "confidence", "logit", *items[0].truth]
        figures = _write_table(output, columns, rows)
        report = errors_path(output)
        report.unlink(missing_ok=True)
        if faults:
            with report.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("image", "error"), *faults])
        for part in parts:
            part.unlink(missing_ok=True)
    except FileNotFoundError:
        if output.exists():
            return None
        raise
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}") from error
    return Outcome(figures, faults)


def errors_path(output: Path) -> Path:
    """Where the files that could not be scored are listed."""
    return output.with_name(f"{output.stem}.errors.csv")


def _merged_rows(
    items: Sequence[Item], parts: list[Path], chunks: int, predictor: Predictor, faults: list[tuple[str, str]]
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each chunk, in the order of the items; the faults met are appended to `faults`."""
    files = [part.open() for part in parts]
    try:
        for file in files:
            file.readline()  # the header
        for chunk in range(chunks):
            content = json.loads(files[chunk % len(files)].readline())
            faults += [(items[index].image, reason) for index, reason in content["faults"]]
            yield [_row(items[index], page, logit, predictor) for index, page, logit in content["rows"]]
    finally:
        for file in files:
            file.close()


def _row(item: Item, page: int, logit: float, predictor: Predictor) -> dict[str, Any]:
    prediction = predictor.decide(logit)
    return {
        "image": item.image,
        "page": page if is_stack(item.path) else None,
        "class": prediction.label,
        "confidence": prediction.confidence,
        "logit": logit,
        **item.truth,
    }


def _write_table(output: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> int:
    """Write the rows as they come, to a temporary file that is renamed; returns how many there were."""
    writers = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
    partial = output.with_name(f"{output.name}.partial")
    count = 0

    def counted() -> Iterator[list[dict[str, Any]]]:
        nonlocal count
        for rows in chunks:
            count += len(rows)
            yield rows

    writers[output.suffix](partial, columns, counted())
    partial.replace(output)
    return count


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

    types = {"page": pa.int32(), "confidence": pa.float64(), "logit": pa.float64(), "label": pa.int64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, schema))
