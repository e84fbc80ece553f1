"""Which files to score: folders, patterns, single files and tables of them."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from amf.bulk.read import is_stack, read_pages
from amf.errors import DataError
from amf.inference.stack import SUFFIXES

PATCH_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
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


def find_items(inputs: Sequence[str], root: Path | None = None) -> list[Item]:
    """List the files that the inputs mean.

    Parameters
    ----------
    inputs : folders (searched to the bottom; images are named relative to the folder), files, glob patterns,
        and tables (.csv, .parquet) with a column `image` and optionally label, slide and domain.
    root : what the images of a table are relative to; by default the table's own folder.

    Raises
    ------
    DataError : an input does not exist, holds no image, or an image is named twice.
    """
    items: list[Item] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [Item(file.relative_to(path).as_posix(), file) for file in _images_below(path)]
        elif path.is_file() and path.suffix in (".csv", ".parquet"):
            found = _read_item_table(path, root or path.parent)
        elif path.is_file():
            found = [Item(given, path)]
        else:
            matches = sorted(glob.glob(given, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
            found = [Item(match, Path(match)) for match in matches if Path(match).is_file()]
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
    return items


def _images_below(folder: Path) -> list[Path]:
    wanted = (*PATCH_SUFFIXES, *SUFFIXES)
    files = (file for file in folder.rglob("*") if file.suffix.lower() in wanted)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def _read_item_table(path: Path, root: Path) -> list[Item]:
    import pandas as pd  # takes half a second, and most inputs are folders

    try:
        text = {"image": str, "slide": str, "domain": str}
        table = pd.read_csv(path, dtype=text) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if "image" not in table:
        raise DataError(f"{path} has the columns {', '.join(map(str, table))}; expected 'image' among them")
    kept = [column for column in TRUTH_COLUMNS if column in table]
    # Plain values, whatever the table's types were; None for what is missing.
    truth = table[kept].astype(object).where(table[kept].notna(), None).to_dict("records")
    images = table["image"].astype(str)
    return [
        Item(image, root / image, {str(column): value for column, value in row.items()})
        for image, row in zip(images, truth, strict=True)
    ]
