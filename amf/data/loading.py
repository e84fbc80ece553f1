"""Text, YAML, JSON, CSV and Parquet files that a user hands over: read whole, or refused in one sentence."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import yaml

from amf.errors import AmfError, DataError, RecipeError
from amf.files import check_regular

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MAX_WHOLE = 2**53
"""The largest whole number that any format keeps exactly: no page, coordinate or label comes near."""


SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""What parts the cells of a CSV file."""

SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read_text(path: Path, error: type[AmfError] = DataError) -> str:
    """Read a UTF-8 text file, with or without a byte-order mark; `error` where there is none."""
    try:
        check_regular(path)
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as fault:
        raise error(f"{path}: no such file") from fault
    except OSError as fault:
        raise error(f"{path} cannot be read: {fault.strerror or fault}") from fault
    except UnicodeDecodeError as fault:
        raise error(
            f"{path} is not UTF-8 text: byte {fault.start} is 0x{fault.object[fault.start]:02x}"
        ) from fault


def read_json(path: Path) -> Any:
    """Read a JSON file; raises DataError as `read_text`, and where it is not JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except RecursionError as fault:
        raise DataError(f"{path} is nested too deeply to be read") from fault
    except ValueError as fault:
        raise DataError(f"{path} is not JSON: {fault}") from fault


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which PyYAML keeps the last in silence.

    Only true and false are booleans, as in YAML 1.2: `Yes`, `No` and `on` are text, as in tables.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        first: dict[Any, Any] = {}
        for key in keys:
            if isinstance(key, yaml.ScalarNode) and first.setdefault((key.tag, key.value), key) is not key:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} appears a second time", key.start_mark
                )
        return super().construct_mapping(node, deep)


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, words) for tag, words in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile("(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def read_yaml(path: Path) -> Any:
    """Read a recipe; raises RecipeError as `read_text`, and where it is not YAML or gives a key twice."""
    if path.suffix.lower() in (".csv", ".tsv", ".parquet"):
        raise RecipeError(f"{path} is a table, expected a recipe, a YAML file")
    text = read_text(path, RecipeError)
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError as fault:
        raise RecipeError(f"{path} is nested too deeply to be read") from fault
    except Exception as fault:  # besides its own errors, PyYAML lets through those of int, date and others
        raise RecipeError(f"{path} is not valid YAML: {fault}") from fault


def read_csv(path: Path, numbers: Iterable[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Read a CSV file: its columns, and its rows as text; lines whose cells are all empty are passed over.

    Commas, semicolons or tabs part the cells, whichever makes most columns of the header. Where they are no
    commas, a decimal comma in a column of `numbers` becomes a point. A first column without a name, which
    counts the rows, and other nameless columns without any value are left out.

    Raises
    ------
    DataError : as `read_text`; no header, quotes that do not close, a name given twice, a row that has
        more or fewer cells than the header, or a column that has both decimal commas and points.
    """
    if path.suffix.lower() in SPREADSHEETS:
        raise DataError(f"{path} is a spreadsheet, expected a table as CSV or Parquet: save it as CSV")
    lines, separator = _lines(path, read_text(path).lstrip("\r\n"))
    header, *rows = lines
    header = [name.strip() for name in header]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            expected = f"expected {len(header)} as in the header, parted by {SEPARATORS[separator]}"
            raise DataError(f"{path}, row {number} has {len(row)} cells, {expected}")
    kept = []
    for position, name in enumerate(header):
        if name in header[:position] and name:
            raise DataError(f"{path} has two columns {name!r}, expected every name once")
        if name and not (position == 0 and name == "Unnamed: 0"):
            kept.append(position)
        elif position and any(row[position] for row in rows):
            raise DataError(f"{path}: column {position + 1} has no name, expected one for its values")
    header, rows = [header[i] for i in kept], [[row[i] for i in kept] for row in rows]
    if separator != ",":
        wanted = {name.casefold() for name in numbers}
        for position in (i for i, name in enumerate(header) if name.casefold() in wanted):
            _point_for_comma(rows, position, f"{path}: the column {header[position]!r}")
    return header, rows


def _lines(path: Path, text: str) -> tuple[list[list[str]], str]:
    """The records of a CSV file, and what parts their cells; a line `sep=;` before them is passed over."""
    text = re.sub(r"\A\"?sep=.\"?[\r\n]+", "", text)

    def records(separator: str, strict: bool = False) -> Iterator[list[str]]:
        # "x, y" pads its cells; a name that begins with a space is not meant so
        padded = separator + " " in re.split("[\r\n]", text, maxsplit=1)[0]
        return csv.reader(
            io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=padded, strict=strict
        )

    try:
        widths = {separator: len(next(records(separator), [])) for separator in SEPARATORS}
        most = max(widths.values())
        if most == 0:
            raise DataError(f"{path} is empty, expected a CSV file with a header")
        found = [separator for separator, width in widths.items() if width == most]
        if most > 1 and len(found) > 1:
            both = " and ".join(SEPARATORS[separator] for separator in found)
            raise DataError(f"{path}: {both} part the header into {most} names alike, expected one of them")
        return [line for line in records(found[0], strict=True) if any(line)], found[0]
    except csv.Error as fault:
        raise DataError(f"{path} is not a readable CSV file: {fault}") from fault


def _point_for_comma(rows: list[list[str]], position: int, where: str) -> None:
    """Write the numbers of one column with a decimal point."""
    commas = [
        row for row in rows if re.fullmatch(r"\s*[+-]?[0-9]*,[0-9]+(?:[eE][+-]?[0-9]+)?\s*", row[position])
    ]
    points = [row for row in rows if "." in row[position]]
    if commas and points:
        both = f"{commas[0][position]!r} and {points[0][position]!r}"
        raise DataError(f"{where} has {both}, expected decimal commas or decimal points alone")
    for row in commas:
        row[position] = row[position].replace(",", ".")


def read_records(
    path: Path, columns: Iterable[str], numbers: Iterable[str] = ()
) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV or Parquet file, all cells as text, each with its place ("labels.csv row 17").

    Raises
    ------
    DataError : as `read_frame`, or the file lacks one of `columns`.
    """
    frame = read_frame(path, required=columns, numbers=numbers)
    names, rows = list(map(str, frame)), frame.astype(object).where(frame.notna(), "").to_numpy().tolist()
    return [
        (f"{path} row {number}", dict(zip(names, map(_as_text, row), strict=True)))
        for number, row in enumerate(rows, start=1)
    ]


def _as_text(value: Any) -> str:
    """A cell as text; a column of whole numbers with gaps is one of floats in Parquet."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def with_names(
    frame: "DataFrame",
    source: str,
    required: Iterable[str] = (),
    optional: Iterable[str] = (),
    columns: Mapping[str, str] | None = None,
) -> "DataFrame":
    """A table whose columns have the names that we know: theirs in other case is the same.

    Parameters
    ----------
    frame, source : the table, and what an error calls it.
    required, optional : the names that we know.
    columns : what this table may call some of them: our name → its own.

    Raises
    ------
    DataError : a column of `required` or `columns` is missing, or two are that but for their case.
    """
    theirs, required = dict(columns or {}), list(required)
    given = list(map(str, frame))
    renamed: dict[str, str] = {}
    for name in dict.fromkeys([*theirs, *required, *optional]):
        names = list(dict.fromkeys([theirs.get(name, name), name]))
        found = next(filter(None, (_columns_called(wanted, given) for wanted in names)), [])
        if len(found) > 1:
            raise DataError(f"{source} has the columns {quoted(found)}, expected one {name!r}")
        if found:
            renamed[found[0]] = name
        elif name in theirs or name in required:
            raise DataError(f"{source}: no column {' or '.join(map(repr, names))}; it has {quoted(given)}")
    replaced = [name for name in theirs if name in given and name not in renamed]
    frame = frame.set_axis(given, axis="columns").drop(columns=replaced)
    return frame.rename(columns=renamed)


def _columns_called(name: str, given: list[str]) -> list[str]:
    """The columns of that name, or those that have it in other case."""
    alike = [column for column in given if column.strip().casefold() == name.strip().casefold()]
    return [name] if name in given else alike


def quoted(names: Iterable[object]) -> str:
    """Names for an error, so that spaces in them show."""
    return ", ".join(repr(str(name)) for name in names)


def table_path(text: str) -> PurePosixPath:
    """A path as a table states it, perhaps one of Windows: a backslash parts folders, too."""
    return PurePosixPath(text.replace("\\", "/"))


def numbers_in(column: "Series[Any]", source: str, whole: bool = False) -> "Series[Any]":
    """The numbers of a column that may be text; an empty cell is a missing one.

    Raises
    ------
    DataError : names the first that is none (or, with `whole`, neither whole nor exact as float64) and its
        row; row 1 is the first below the header.
    """
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce")
    wrong = numbers.isna() & column.notna() & (column != "")
    if whole:
        wrong |= numbers.notna() & ~((numbers % 1 == 0) & (numbers.abs() <= MAX_WHOLE))
    expected = f"a whole number up to {MAX_WHOLE}" if whole else "a number"
    refuse_rows(source, column, wrong, f"the {column.name} is {{!r}}, expected {expected}")
    return numbers


def refuse_rows(source: object, values: "Series[Any]", wrong: "Series[bool]", message: str) -> None:
    """Raise DataError for the first row marked wrong; row 1 is the first below the header."""
    if wrong.any():
        position = int(wrong.to_numpy().argmax())
        more = f" ({wrong.sum()} such rows)" if wrong.sum() > 1 else ""
        raise DataError(f"{source}, row {position + 1}: {message.format(values.iloc[position])}{more}")


def read_frame(
    path: Path,
    parquet: bool | None = None,
    required: Iterable[str] = (),
    optional: Iterable[str] = (),
    numbers: Iterable[str] = (),
    columns: Mapping[str, str] | None = None,
) -> "DataFrame":
    """Read a table: Parquet with its own types, CSV with text in every cell ("" where it is empty).

    Parameters
    ----------
    parquet : by default the suffix decides.
    required, optional, columns : see `with_names`.
    numbers : columns, by our name, in which a decimal comma is one: see `read_csv`.

    Raises
    ------
    DataError : as `read_csv` and `with_names`, or no readable Parquet file.
    """
    import pandas as pd  # takes half a second, which who reads no table does not pay

    if not (path.suffix == ".parquet" if parquet is None else parquet):
        names, rows = read_csv(path, [*numbers, *((columns or {}).get(name, name) for name in numbers)])
        frame = pd.DataFrame(rows, columns=names, dtype=str)
    else:
        try:
            if not path.is_file():
                raise DataError(f"{path}: no such file")
            frame = pd.read_parquet(path)
            if any(frame.index.names):  # a column that was the index of who wrote it
                frame = frame.reset_index()
        except AmfError:
            raise
        except Exception as fault:  # pyarrow meets damaged files with a dozen exception types
            raise DataError(f"{path} is not a readable Parquet file: {fault}") from fault
    return with_names(frame, str(path), required, optional, columns)
