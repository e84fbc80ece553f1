"""Which files to score: folders, patterns, single files and tables of them."""

import glob
import itertools
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from amf.bulk.read import is_stack, read_pages
from amf.data.loading import read_frame, table_path
from amf.data.words import label_of
from amf.errors import DataError, JobError
from amf.inference.stack import SUFFIXES

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", *SUFFIXES)
TABLE_SUFFIXES = (".csv", ".parquet")
TRUTH_COLUMNS = ("label", "slide", "domain")
"""Columns of an input table that are passed on, so that the output can be evaluated as it is."""


@dataclass(frozen=True)
class Item:
    """One file to score: its name in the table, where it lies, and what the input table knew of it.

    The engine asks an item for no more than what is here, so that another kind is scored by the same engine.

    Attributes
    ----------
    number : its place in the output, from 0; items may be scored in another order.
    """

    image: str
    path: Path
    truth: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0

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


def find_items(
    inputs: Sequence[str], root: Path | None = None, columns: Mapping[str, str] | None = None
) -> Found:
    """List the files that the inputs mean; what cannot be read is an item too, which says so when it is read.

    Parameters
    ----------
    inputs : folders (searched to the bottom, linked ones too; images are named relative to the folder),
        files, glob patterns, and tables (.csv, .parquet) with a column `image` and optionally label, slide
        and domain.
    root : what the images of a table are relative to; by default the table's own folder.
    columns : what the tables may call some of their columns: our name -> theirs.

    Raises
    ------
    DataError : an input does not exist, holds no image, or an image is named twice; a table is malformed, or
        holds a label that no word is for.
    """
    items: list[Item] = []
    others = Counter[str]()
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = _items_below(path, others)
        elif path.is_file() and path.suffix in TABLE_SUFFIXES:
            found = _items_of_table(path, root or path.parent, columns)
        elif os.path.lexists(path):
            found = [Item(printable(given), path)]
        else:
            found = _items_matching(given)
        if not found:
            raise DataError(f"No images found at {given}, expected patches, stacks or a table of them")
        items += found
    _check_alike(items)
    return Found([replace(item, number=number) for number, item in enumerate(items)], others)


def _check_alike(items: Sequence[Item]) -> None:
    """Refuse images of one name, and inputs that cannot be the rows of one table."""
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
    for column in items[0].truth:
        kinds = {type(item.truth[column]) for item in items} - {type(None)}
        if not any(kinds <= alike for alike in ({str}, {bool}, {int, float})):
            found = " and ".join(sorted(kind.__name__ for kind in kinds))
            raise DataError(f"the column {column!r} of the inputs holds {found}, expected text or numbers")


def printable(text: Path | str) -> str:
    """A path, or text with paths in it, as UTF-8 can have it: a byte that is none of it as \\xNN."""
    return str(text).encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")


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

    def unreadable(path: Path, reason: str) -> None:
        found.append(Unreadable(printable(path.relative_to(top)), path, reason=reason))

    def unlisted(error: OSError) -> None:
        unreadable(Path(error.filename), f"cannot be listed: {error.strerror}")

    for name, folders, files in os.walk(top, onerror=unlisted, followlinks=True):
        folder = Path(name)
        for path in [folder / entry for entry in folders]:
            if not enters(path.relative_to(top)):
                folders.remove(path.name)
            elif path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
                folders.remove(path.name)
                unreadable(path, "is a link back to a folder that it lies in")
        for path in [folder / entry for entry in files]:
            relative = path.relative_to(top)
            if not path.exists() and (takes(relative) or enters(relative)):  # may have led to either
                unreadable(path, "is a link to nothing")
            elif takes(relative) and not path.name.startswith("."):
                found.append(Item(printable(relative), path))
            elif not path.name.startswith("."):
                others[path.suffix.lower() or "no suffix"] += 1
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
    return [replace(item, image=printable(item.path)) for item in found]


def _fits(names: Sequence[str], pattern: Sequence[str], begun: bool = False) -> bool:
    """Whether names match a whole pattern or, if `begun`, its beginning with something left."""
    if not names:
        return bool(pattern) if begun else all(part == "**" for part in pattern)
    if not pattern:
        return False
    if pattern[0] == "**":
        return _fits(names, pattern[1:], begun) or _fits(names[1:], pattern, begun)
    return fnmatchcase(names[0], pattern[0]) and _fits(names[1:], pattern[1:], begun)


def _items_of_table(path: Path, root: Path, columns: Mapping[str, str] | None) -> list[Item]:
    """The images that a table names, each with its label, slide and domain where there are such columns."""
    table = read_frame(path, required=["image"], optional=TRUTH_COLUMNS, columns=columns)
    kept = ["image", *(column for column in TRUTH_COLUMNS if column in table)]
    cells = table[kept].astype(object)
    items: list[Item] = []
    for number, cell in enumerate(cells.where(cells.notna(), None).to_dict("records"), start=1):
        row = {str(name): None if str(value) == "" else value for name, value in cell.items()}
        image, where = row.pop("image"), f"{path}, row {number}"
        if not isinstance(image, str):
            found = "an empty cell" if image is None else repr(image)
            raise DataError(f"{where}: the image is {found}, expected a file name")
        try:
            truth = {**row, "label": label_of(row["label"])} if "label" in row else row
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        items.append(Item(image, root / table_path(image), truth))
    return items
