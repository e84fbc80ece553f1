"""Any other data set whose labels are a CSV file, its columns mapped in the recipe.

This is how LUNG-MITO is read: its file format is published nowhere that we could read, so whoever has the
files names the columns:

    - source: generic
      dataset: LUNG-MITO
      labels: LUNG-MITO/labels.csv      # one row a figure
      patches: LUNG-MITO/patches        # the folder that the image column is relative to
      columns: {image: file, label: class, slide: case}   # where present: votes, x, y, tumor, ... , domain
      spellings: {typical: 0, atypical: 1}   # only if not AMF / NMF, Atypical / Normal, True / False, 1 / 0
      constants: {tumor: human lung cancer, species: Human}   # what the file says of no row in particular
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator

from amf.data.loading import read_records, table_path
from amf.data.sources.base import (
    Figure,
    Reading,
    RootPath,
    Source,
    join_domain,
    label_in,
    reading_of,
    register,
    whole,
)
from amf.data.words import votes_of
from amf.errors import DataError

_TRAITS = ["tumor", "scanner", "origin", "species", "domain"]


class Columns(BaseModel):
    """The name in the file of each column of the patch table; what is left out is unpublished."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    label: str
    slide: str
    votes: list[str] = []  # one column an expert, or a single one with all votes as "110"
    x: str | None = None
    y: str | None = None
    tumor: str | None = None
    scanner: str | None = None
    origin: str | None = None
    species: str | None = None
    domain: str | None = None
    sublabel: str | None = None

    def names(self) -> list[str]:
        """All columns the file must have."""
        single = [getattr(self, name) for name in type(self).model_fields if name != "votes"]
        return [*(name for name in single if name is not None), *self.votes]


class Constants(BaseModel):
    """What holds for every row of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tumor: str | None = None
    scanner: str | None = None
    origin: str | None = None
    species: str | None = None
    domain: str | None = None


@register("generic")
class Generic(Source):
    """A CSV file and a folder of patches.

    The domain is its own column or constant; else the combination of tumor, scanner, origin and species where
    all four are known; else the data set is one domain.
    """

    dataset: str
    labels: RootPath
    patches: RootPath
    columns: Columns
    spellings: dict[Annotated[str, BeforeValidator(str)], int] | None = None
    constants: Constants = Constants()

    @model_validator(mode="after")
    def _is_consistent(self) -> "Generic":
        twice = [
            n
            for n in _TRAITS
            if getattr(self.columns, n) is not None and getattr(self.constants, n) is not None
        ]
        if twice:
            raise ValueError(f"{', '.join(twice)} is both a column and a constant")
        if self.spellings is not None and set(self.spellings.values()) != {0, 1}:
            raise ValueError("spellings must map the words for NMF to 0 and those for AMF to 1")
        return self

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        numbers = [name for name in (self.columns.x, self.columns.y) if name]
        records = read_records(root / self.labels, self.columns.names(), numbers)
        return reading_of(records, self._figure, skip_bad)

    def _figure(self, row: Mapping[str, str]) -> Figure:
        columns, spellings = self.columns, self.spellings
        if not row[columns.image] or not row[columns.slide]:
            raise DataError("image and slide must not be empty")
        cells = [row[name] for name in columns.votes]
        compact = len(cells) == 1 and len(cells[0]) > 1 and set(cells[0]) <= {"0", "1"}
        traits = {name: self._trait(row, name) for name in _TRAITS}
        domain = traits.pop("domain")
        if domain is None:
            known = [value for value in traits.values() if value is not None]
            domain = join_domain(*known) if len(known) == len(traits) else self.dataset
        return Figure(
            image=str(PurePosixPath(self.patches) / table_path(row[columns.image])),
            dataset=self.dataset,
            slide=f"{self.dataset}/{row[columns.slide]}",
            x=whole(row[columns.x]) if columns.x and row[columns.x] else None,
            y=whole(row[columns.y]) if columns.y and row[columns.y] else None,
            label=label_in(row[columns.label], spellings),
            votes=cells[0] if compact else votes_of(cells, spellings),
            domain=domain,
            sublabel=(row[columns.sublabel] or None) if columns.sublabel else None,
            **traits,
        )

    def _trait(self, row: Mapping[str, str], name: str) -> str | None:
        column: str | None = getattr(self.columns, name)
        constant: str | None = getattr(self.constants, name)
        return constant if column is None else (row[column] or None)
