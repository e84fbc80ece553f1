"""Text, YAML, JSON, CSV and Parquet files that a user hands over: read whole, or refused in one sentence."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from amf.errors import AmfError, DataError, RecipeError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MAX_WHOLE = 2**53
"""The largest whole number that any format keeps exactly: no page, coordinate or label comes near."""


def read_text(path: Path, error: type[AmfError] = DataError) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark.

    Raises
    ------
    error : no such file, no regular file, or not UTF-8.
    """
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
            raise error(
                f"{path} is {'a folder' if path.is_dir() else 'no regular file'}, expected a text file"
            )
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as fault:
        raise error(f"{path}: no such file") from fault
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror or fault}") from fault
    except UnicodeDecodeError as fault:
        raise error(
            f"{path} is not UTF-8 text: byte {fault.start} is 0x{fault.object[fault.start]:02x}"
        ) from fault


def read_json(path: Path, error: type[AmfError] = DataError) -> Any:
    """Read a JSON file; raises as `read_text`, and where it is not JSON."""
    text = read_text(path, error)
    try:
        return json.loads(text)
    except RecursionError as fault:
        raise error(f"{path} is nested too deeply to be read") from fault
    except ValueError as fault:
        raise error(f"{path} is not JSON: {fault}") from fault


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML keeps the last in silence."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        first: dict[Any, Any] = {}
        for key in keys:
            if isinstance(key, yaml.ScalarNode) and first.setdefault((key.tag, key.value), key) is not key:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} appears a second time", key.start_mark
                )
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, error: type[AmfError] = RecipeError) -> Any:
    """Read a YAML file; raises as `read_text`, and where it is not YAML or gives a key twice."""
    text = read_text(path, error)
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as fault:
        raise error(f"{path} is nested too deeply to be read") from fault
    except Exception as fault:  # besides its own errors, PyYAML lets through those of int, date and others
        raise error(f"{path} is not valid YAML: {fault}") from fault


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Read a CSV file: its columns, and its rows as text; lines without any cell are passed over.

    A column without a name must be empty in every row, or the first (a row number), and a name is given once.

    Raises
    ------
    DataError : as `read_text`; no header, quotes that do not close, a name given twice, or a row that has
        more or fewer cells than the header: whose column a cell is of would be a guess.
    """
    text = read_text(path)
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as fault:
        raise DataError(f"{path} is not a readable CSV file: {fault}") from fault
    if not lines:
        raise DataError(f"{path} is empty, expected a CSV file with a header")
    header, *rows = lines
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DataError(
                f"{path}, row {number} has {len(row)} cells, expected {len(header)} as in the header"
            )
    for position, name in enumerate(header):
        if name in header[:position] and name:
            raise DataError(f"{path} has two columns {name!r}, expected every name once")
        if not name and position and any(row[position] for row in rows):
            raise DataError(f"{path}: column {position + 1} has no name, expected one for its values")
    return header, rows


def read_records(path: Path, columns: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a published CSV file, all cells as text, each with its place ("labels.csv row 17").

    Raises
    ------
    DataError : as `read_csv`, or the file lacks one of `columns`.
    """
    names, rows = read_csv(path)
    missing = [column for column in columns if column not in names]
    if missing:
        raise DataError(f"{path}: no column {', '.join(missing)}; it has {', '.join(names)}.")
    return [(f"{path} row {i}", dict(zip(names, row, strict=True))) for i, row in enumerate(rows, start=1)]


def check_whole(values: "Series[Any]", source: str) -> None:
    """Check that numbers are whole, missing, or none at all, and small enough to stay exact.

    Raises
    ------
    DataError : names the first that is not, and its row; row 1 is the first below the header.
    """
    wrong = values.notna() & ~((values % 1 == 0) & (values.abs() <= MAX_WHOLE))
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        found = f"{values.name} is {values.iloc[row]}"
        raise DataError(f"{source}, row {row + 1}: the {found}, expected a whole number up to {MAX_WHOLE}")


def read_frame(path: Path, parquet: bool | None = None) -> "DataFrame":
    """Read a table: Parquet with its own types, CSV with text in every cell; by default the suffix decides.

    Raises
    ------
    DataError : as `read_csv`, or no readable Parquet file.
    """
    import pandas as pd  # takes half a second, which who reads no table does not pay

    if not (path.suffix == ".parquet" if parquet is None else parquet):
        columns, rows = read_csv(path)
        return pd.DataFrame(rows, columns=columns, dtype=str)
    try:
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        return pd.read_parquet(path)
    except AmfError:
        raise
    except Exception as fault:  # pyarrow meets damaged files with a dozen exception types
        raise DataError(f"{path} is not a readable Parquet file: {fault}") from fault
