"""Any other data set whose labels are a table, its columns mapped in the recipe.

    - source: generic
      dataset: my laboratory
      labels: figures.csv               # CSV or Parquet, one row a figure
      patches: patches                  # the folder that the image column is relative to; default: the root
      columns: {image: file, slide: slide, votes: [A, B, C], tumor: tumour, scanner: scanner}
      constants: {species: Human}       # what the file says of no row in particular

`label` or `votes` must be among the columns: without a label, the majority of votes is it. LUNG-MITO is read
like this, too: its file format is published nowhere that we could read, so whoever has the files names the
columns.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, model_validator

from amf.data.loading import read_records, table_path
from amf.data.schema import RootPath, Section
from amf.data.sources.base import (
    NO_VOTE,
    TIE,
    Figure,
    Reading,
    Source,
    Undecided,
    join_domain,
    label_in,
    reading_of,
    register,
    whole,
)
from amf.data.words import votes_of
from amf.errors import DataError

T = TypeVar("T")
Names = Annotated[
    tuple[str, ...], BeforeValidator(lambda names: (names,) if isinstance(names, str) else names)
]
"""Columns, of which a single one needs no list."""


class Columns(Section):
    """The name in the file of each column of the patch table; what is left out is unpublished."""

    image: str
    slide: str
    label: str | None = None
    votes: Names = ()  # a column an expert, or a single one of all: "110", "AMF; NMF; unsure"
    x: str | None = None
    y: str | None = None
    tumor: str | None = None
    scanner: str | None = None
    origin: str | None = None
    species: str | None = None
    domain: str | None = None
    sublabel: str | None = None

    @model_validator(mode="after")
    def _label_is_known(self) -> "Columns":
        if self.label is None and not self.votes:
            raise ValueError("there is neither label nor votes, expected the column of one at least")
        return self

    def names(self) -> list[str]:
        """All columns the file must have."""
        single = [getattr(self, name) for name in type(self).model_fields if name != "votes"]
        return [*(name for name in single if name is not None), *self.votes]

    def coordinates(self) -> list[str]:
        """The columns of x and y, where there are any."""
        return [name for name in (self.x, self.y) if name is not None]


class Traits(Section):
    """What is the same for all figures."""

    tumor: str | None = None
    scanner: str | None = None
    origin: str | None = None
    species: str | None = None
    domain: str | None = None


TRAITS, NOTHING_CONSTANT = tuple(Traits.model_fields), Traits()


@register("generic")
class Generic(Source):
    """A table and a folder of patches."""

    dataset: str
    labels: RootPath
    patches: RootPath = "."
    columns: Columns
    spellings: dict[Annotated[str, BeforeValidator(str)], int] | None = None
    constants: Traits = Traits()

    @model_validator(mode="after")
    def _is_consistent(self) -> "Generic":
        columns, constants = self.columns, self.constants
        if twice := [trait for trait in TRAITS if getattr(columns, trait) and getattr(constants, trait)]:
            raise ValueError(f"{', '.join(twice)} is both a column and a constant")
        if self.spellings is not None and set(self.spellings.values()) != {0, 1}:
            raise ValueError("spellings must map the words for NMF to 0 and those for AMF to 1")
        return self

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        records = read_records(root / self.labels, self.columns.names(), self.columns.coordinates())
        return reading_of(records, self._figure, skip_bad)

    def _figure(self, row: Mapping[str, str]) -> Figure:
        return figure_of(row, self.dataset, self.patches, self.columns, self.constants, self.spellings)


def figure_of(
    row: Mapping[str, str],
    dataset: str,
    patches: str,
    columns: Columns,
    constants: Traits = NOTHING_CONSTANT,
    spellings: Mapping[str, int] | None = None,
) -> Figure:
    """The figure of one row of any table.

    The domain is its own column or constant; else the combination of those of tumor, scanner, origin and
    species that are known; else the data set is one domain.

    Raises
    ------
    DataError : a cell is empty or not what its column holds; the column is named.
    Undecided : there is no label, and the votes tie or are none.
    """

    def cell(column: str, read: Callable[[str], T]) -> T:
        try:
            return read(row[column])
        except DataError as fault:
            raise DataError(f"column {column!r}: {fault}") from None

    def optional(column: str | None, read: Callable[[str], T]) -> T | None:
        return None if column is None or not row[column].strip() else cell(column, read)

    many = len(columns.votes) > 1
    votes = "".join(cell(column, lambda text: _votes(text, many, spellings)) for column in columns.votes)
    traits = {trait: getattr(constants, trait) or optional(getattr(columns, trait), str) for trait in TRAITS}
    known: dict[str, Any] = {
        "image": str(PurePosixPath(patches) / table_path(cell(columns.image, _not_empty))),
        "dataset": dataset,
        "slide": f"{dataset}/{cell(columns.slide, _not_empty)}",
        "x": optional(columns.x, whole),
        "y": optional(columns.y, whole),
        "votes": votes,
        "sublabel": optional(columns.sublabel, str),
        "domain": traits.pop("domain") or join_domain(*traits.values()) or dataset,
        **traits,
    }
    if columns.label is not None:
        return Figure(label=cell(columns.label, lambda text: label_in(text, spellings)), **known)
    amf, nmf = votes.count("1"), votes.count("0")
    if amf == nmf:
        raise Undecided(TIE if votes else NO_VOTE, known)
    return Figure(label=int(amf > nmf), **known)


def _votes(text: str, one: bool, spellings: Mapping[str, int] | None) -> str:
    """The votes of a cell: `one` expert's, or those of all where all are in one column."""
    compact = re.fullmatch("[01]{2,}", text.strip())
    if one or not compact:
        return votes_of([text] if one else re.split("[,;/|]", text), spellings)
    return compact[0]


def _not_empty(text: str) -> str:
    if not text.strip():
        raise DataError("the cell is empty, expected a name")
    return text
