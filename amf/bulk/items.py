"""Which files to score: folders, patterns, single files and tables of them."""

import glob
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    fault : why it cannot be read, where that is known before.
    """

    image: str
    path: Path
    truth: Mapping[str, Any] = field(default_factory=dict)
    number: int = 0
    fault: str = ""

    unit: ClassVar[str] = "file"

    @property
    def is_stack(self) -> bool:
        """Whether it may hold several figures, each with a page number in the table."""
        return is_stack(self.path)

    def read(self) -> NDArray[np.uint8]:
        """Its figures: (N, 128, 128, 3) uint8 RGB; JobError if there are none to be read."""
        if self.fault:
            raise JobError(self.fault)
        return read_pages(self.path)


def find_items(
    inputs: Sequence[str], root: Path | None = None, columns: Mapping[str, str] | None = None
) -> list[Item]:
    """List the files that the inputs mean, and print how many beside them are no images by their suffix.

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
    if others:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(others.items()))
        print(f"{others.total()} files are no images by their suffix and are left out: {kinds}")
    return [replace(item, number=number) for number, item in enumerate(items)]


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


def _items_below(top: Path, others: Counter[str]) -> list[Item]:
    """Every image below a folder, and everything that may hide one: it is never left out in silence."""
    found: list[Item] = []

    def note(path: Path, fault: str = "") -> None:
        found.append(Item(printable(path.relative_to(top)), path, fault=fault and f"{path} {fault}"))

    def unlisted(error: OSError) -> None:
        folder = Path(error.filename)
        found.append(_unlisted(folder.relative_to(top), folder, error))

    for name, folders, files in os.walk(top, onerror=unlisted, followlinks=True):
        folder = Path(name)
        for path in [folder / entry for entry in folders]:
            if path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
                folders.remove(path.name)
                note(path, "is a link back to a folder that it lies in")
        for path in [folder / entry for entry in files]:
            if not path.exists():
                note(path, "is a link to nothing")
            elif path.name.startswith("."):
                continue
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                note(path)
            else:
                others[path.suffix.lower() or "no suffix"] += 1
    return sorted(found, key=lambda item: item.path)


def _items_matching(pattern: str) -> list[Item]:
    """Every file that matches, and the folders on the way that cannot be listed: glob passes over those."""
    matching = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207  follows links
    found = [Item(printable(file), file) for file in matching if not file.is_dir()]
    listed = set()  # literal steps are taken without being listed
    for step in (Path(pattern), *Path(pattern).parents):
        if glob.has_magic(step.name):
            folders = step if step.name == "**" else step.parent
            listed |= set(map(Path, glob.glob(f"{folders}/", recursive=True)))  # noqa: PTH207
    for folder in sorted(listed):
        try:
            os.scandir(folder).close()
        except OSError as error:
            found.append(_unlisted(folder, folder, error))
    return found


def _unlisted(image: Path, folder: Path, error: OSError) -> Item:
    """A folder whose images nobody can know of, under its name in the table."""
    return Item(printable(image), folder, fault=f"{folder} cannot be listed: {error.strerror}")


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
