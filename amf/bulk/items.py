"""Which files to score: folders, patterns, single files and tables of them."""

import glob
import itertools
import math
import numbers
import os
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from amf.bulk.read import is_stack, read_pages
from amf.data.loading import MAX_WHOLE, read_csv
from amf.errors import DataError, JobError, account
from amf.inference.stack import SUFFIXES

PATCH_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
IMAGE_SUFFIXES = (*PATCH_SUFFIXES, *SUFFIXES)
NOT_REGULAR = "is not a regular file, expected a patch or a stack"
TRUTH_COLUMNS = ("label", "slide", "domain")
"""Columns of an input table that are passed on, so that the output can be evaluated as it is."""


@dataclass(frozen=True)
class Item:
    """One file to score: its name in the table, where it lies, and what the input table knew of it.

    The engine asks an item for no more than what is here, so that another kind is scored
    by the same engine.
    """

    image: str
    path: Path
    truth: Mapping[str, Any] = field(default_factory=dict)

    unit: ClassVar[str] = "file"

    @property
    def is_stack(self) -> bool:
        """Whether it may hold several figures, each with a page number in the table."""
        return is_stack(self.path)

    def read(self) -> NDArray[np.uint8]:
        """Its figures: (N, 128, 128, 3) uint8 RGB; JobError if there are none to be read."""
        return read_pages(self.path)


@dataclass(frozen=True)
class Unreadable(Item):
    """What lies where images are looked for and cannot be read; `reason` says why."""

    reason: str = ""

    def read(self) -> NDArray[np.uint8]:
        """Raise JobError with the reason."""
        raise JobError(f"{self.path} {self.reason}")


@dataclass(frozen=True)
class Found:
    """What the inputs mean: the items, and how many files beside them are no images by their suffix."""

    items: list[Item]
    others: Counter[str] = field(default_factory=Counter)


def find_items(inputs: Sequence[str], root: Path | None = None) -> Found:
    """List the files that the inputs mean; what cannot be read is an item too, which says so when it is read.

    Parameters
    ----------
    inputs : folders (searched to the bottom, linked ones too; images are named relative to the folder),
        files, glob patterns, and tables (.csv, .parquet) with a column `image` and optionally label, slide
        and domain.
    root : what the images of a table are relative to; by default the table's own folder.

    Raises
    ------
    DataError : an input does not exist, holds no image, or an image is named twice; a table is malformed, or
        holds a label that is no number.
    """
    items: list[Item] = []
    others = Counter[str]()
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = _items_below(path, others)
        elif path.is_file() and path.suffix in (".csv", ".parquet"):
            found = _read_item_table(path, root or path.parent)
        elif path.is_file():
            found = [Item(_name(given), path)]
        elif path.exists() or path.is_symlink():
            found = [Unreadable(_name(given), path, reason=NOT_REGULAR)]
        else:
            found = _items_matching(given)
        if not found:
            raise DataError(
                f"{given} is, holds or matches no image, expected patches, stacks or a table of them"
            )
        items += found
    seen = set()
    for item in items:
        if item.image in seen:
            raise DataError(f"{item.path}: a second image is named {item.image!r}, expected distinct names")
        seen.add(item.image)
        if item.truth.keys() != items[0].truth.keys():
            raise DataError(
                f"{item.path} comes with the columns {list(item.truth)}, the first image with "
                f"{list(items[0].truth)}: expected inputs with the same columns"
            )
    truth_types(items)
    return Found(items, others)


def truth_types(items: Sequence[Item]) -> dict[str, type]:
    """The type of each column that was passed on: str, bool, int, or float where some are whole and some not.

    Raises
    ------
    DataError : a column holds values of two types, or of another type.
    """
    types: dict[str, type] = {}
    for column in items[0].truth if items else ():
        kinds = {_kind(item.truth[column]) for item in items} - {type(None)}
        if kinds == {int, float}:
            kinds = {float}
        if len(kinds) > 1 or not kinds <= {str, bool, int, float}:
            found = " and ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"the column {column!r} of the inputs holds {found}, expected text or numbers")
        types[column] = kinds.pop() if kinds else str
    return types


def _kind(value: Any) -> type:
    """What a value counts as: numpy's numbers as Python's."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return int if isinstance(value, numbers.Integral) else float
    return type(value)


def _name(path: Path | str) -> str:
    """A path as text for the table; bytes that are not UTF-8 as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _items_below(
    top: Path,
    others: Counter[str],
    takes: Callable[[Path], bool] = lambda path: path.suffix.lower() in IMAGE_SUFFIXES,
    enters: Callable[[Path], bool] = lambda path: True,
) -> list[Item]:
    """Every image below a folder, and everything that may hide one: it is never left out in silence.

    `takes` and `enters` say by the path relative to `top` which file is an image, which folder searched.
    """
    found: list[Item] = []
    waiting = [(top, {_identity(folder) for folder in (top.resolve(), *top.resolve().parents)})]

    def unreadable(path: Path, reason: str) -> None:
        found.append(Unreadable(_name(path.relative_to(top)), path, reason=reason))

    while waiting:
        folder, above = waiting.pop()
        try:
            entries = list(folder.iterdir())
        except OSError as error:
            unreadable(folder, f"cannot be listed: {_why(error)}")
            continue
        for path in entries:
            relative = path.relative_to(top)
            try:
                mode = path.stat().st_mode
                identity = _identity(path)
            except OSError as error:
                if takes(relative) or enters(relative):  # a broken link may have led to either
                    unreadable(path, f"cannot be read: {_why(error)}")
                continue
            if stat.S_ISDIR(mode):
                if not enters(relative):
                    continue
                if identity in above:
                    unreadable(path, "is a link back to a folder that it lies in")
                else:
                    waiting.append((path, above | {identity}))
            elif path.name.startswith("."):
                continue
            elif not takes(relative):
                others[path.suffix.lower() or "no suffix"] += 1
            elif stat.S_ISREG(mode):
                found.append(Item(_name(relative), path))
            else:
                unreadable(path, NOT_REGULAR)
    return sorted(found, key=lambda item: item.path)


def _items_matching(pattern: str) -> list[Item]:
    """The files that a glob pattern matches: `*` within one name, `**` any number of folders."""
    parts = Path(pattern).parts
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts[:-1]))
    top, rest = Path(*plain), parts[len(plain) :]
    if not top.is_dir():
        return []
    found = _items_below(
        top,
        Counter(),
        takes=lambda path: _fits(path.parts, rest),
        enters=lambda path: _fits(path.parts, rest, begun=True),
    )
    return [replace(item, image=_name(item.path)) for item in found]


def _fits(names: Sequence[str], pattern: Sequence[str], begun: bool = False) -> bool:
    """Whether names match a whole pattern or, if `begun`, its beginning with something left."""
    if not names:
        return bool(pattern) if begun else all(part == "**" for part in pattern)
    if not pattern:
        return False
    if pattern[0] == "**":
        return _fits(names, pattern[1:], begun) or _fits(names[1:], pattern, begun)
    return fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:], begun)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _read_item_table(path: Path, root: Path) -> list[Item]:
    columns, rows = _cells(path)
    if "image" not in columns:
        raise DataError(f"{path} has the columns {', '.join(columns)}; expected 'image' among them")
    kept = [column for column in TRUTH_COLUMNS if column in columns]
    items: list[Item] = []
    for number, row in enumerate(rows, start=1):
        image = row["image"]
        if not isinstance(image, str) or not image:
            found = "an empty cell" if image in (None, "") else repr(image)
            raise DataError(f"{path}, row {number}: the image is {found}, expected a file name")
        truth = {column: row[column] for column in kept}
        if "label" in truth:
            truth["label"] = _label(truth["label"], f"{path}, row {number}")
        items.append(Item(image, root / image, truth))
    account(f"rows of {path}", len(rows), len(items), 0)
    return items


def _cells(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table and its rows, None where a cell is empty: CSV as text, Parquet as typed."""
    if path.suffix == ".csv":
        columns, lines = read_csv(path)
        return columns, [
            {column: cell or None for column, cell in zip(columns, line, strict=True)} for line in lines
        ]
    import pyarrow.parquet as pq

    try:
        names = [*map(str, pq.read_schema(path).names)]
        table = pq.read_table(path, columns=[name for name in ("image", *TRUTH_COLUMNS) if name in names])
        rows = table.to_pylist()
    except Exception as error:  # pyarrow meets damaged files with a dozen exception types
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    return names, [{column: _missing_as_none(value) for column, value in row.items()} for row in rows]


def _missing_as_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _label(value: Any, where: str) -> int | float | None:
    """A label as the number that it is: `amf evaluate` takes no other, which is said before the scoring."""
    if value is None:
        return None
    number = value
    if isinstance(value, str):
        try:
            number = int(value) if value.strip().lstrip("+-").isdecimal() else float(value)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) <= MAX_WHOLE:
        raise DataError(f"{where}: the label is {value!r}, expected a number: 0 (NMF) or 1 (AMF)")
    return number
