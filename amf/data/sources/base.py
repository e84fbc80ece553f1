"""What every source shares: the figure it yields, the record of what it leaves out, and the registry."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field

from amf.data.schema import Section
from amf.data.words import label_of
from amf.errors import DataError, account

if TYPE_CHECKING:
    from pandas import DataFrame

UNUSABLE_ROW = "unusable row"
LISTED_TWICE = "listed twice"
UNLABELLED = "no label published"
TIE, NO_VOTE = "the experts tie", "no vote but unsure"


@dataclass(frozen=True)
class Figure:
    """One mitotic figure as its publisher describes it; the fields are the columns of the patch table."""

    image: str
    dataset: str
    slide: str
    label: int
    domain: str
    x: int | None = None
    y: int | None = None
    votes: str = ""
    tumor: str | None = None
    scanner: str | None = None
    origin: str | None = None
    species: str | None = None
    sublabel: str | None = None

    @property
    def soft_label(self) -> float:
        """Share of AMF among the votes present; the label where no vote is published."""
        return self.votes.count("1") / len(self.votes) if self.votes else float(self.label)


@dataclass(frozen=True)
class Reading:
    """A data set as read: its figures, the rows left out (with reason and detail), and remarks."""

    table: "DataFrame"
    removed: "DataFrame"
    notes: list[str] = field(default_factory=list)


class Undecided(DataError):
    """A row whose votes have no majority: it is left out and listed, and stops nothing."""

    def __init__(self, reason: str, known: Mapping[str, object]) -> None:
        super().__init__(reason)
        self.known = known


class Source(Section, ABC):
    """A data set in a recipe: its fields are the recipe's keys, every path relative to the data root."""

    source: str = Field("", description="the name it is registered under")

    @abstractmethod
    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """Read the labels below `root`; the patches themselves need not be there yet.

        Raises
        ------
        DataError : a file or column is missing, or, unless `skip_bad`, a row is not usable.
        """


SOURCES: dict[str, type[Source]] = {}  # key in a recipe -> its reader

S = TypeVar("S", bound=type[Source])


def register(name: str) -> Callable[[S], S]:
    """Enter a source under the name recipes use for it. Raises ValueError where it is taken."""

    def enter(source: S) -> S:
        if name in SOURCES:
            raise ValueError(f"source {name!r} is already {SOURCES[name].__name__}")
        SOURCES[name] = source
        return source

    return enter


def reading_of(
    records: Iterable[tuple[str, Mapping[Any, Any]]],
    figure_of: Callable[[Mapping[Any, Any]], Figure],
    skip_bad: bool,
) -> Reading:
    """Turn the rows of a published file into a patch table; every row is either used or in `removed`.

    A row that repeats an earlier one word for word is left out and listed, as OMG-Octo has some.

    Parameters
    ----------
    records : (place, row) pairs as `read_records` yields them.
    figure_of : makes one figure; a DataError says why a row is none, Undecided why it is left out.
    skip_bad : list an unusable row in `removed` instead of raising.

    Raises
    ------
    DataError : names file, row and fault of the first unusable row.
    """
    figures: dict[str, Figure] = {}
    removed: list[dict[str, object]] = []
    given = 0
    for given, (place, record) in enumerate(records, start=1):  # noqa: B007  counted to be accounted for
        try:
            figure = figure_of(record)
            if figures.get(figure.image) == figure:
                removed.append({**vars(figure), "reason": LISTED_TWICE, "detail": place})
                continue
            if figure.image in figures:
                raise DataError(f"image {figure.image!r} appears a second time, expected unique ids")
            figures[figure.image] = figure
        except Undecided as reason:
            removed.append({**reason.known, "reason": str(reason), "detail": place})
        except DataError as fault:
            if not skip_bad:
                raise DataError(f"{place}: {fault}") from None
            removed.append({"reason": UNUSABLE_ROW, "detail": f"{place}: {fault}"})
    account("rows of a source", given, len(figures), len(removed))
    return Reading(table_of(list(figures.values())), removed_of(removed))


def table_of(figures: Sequence[Figure]) -> "DataFrame":
    """The patch table (N rows, in the order given) of these figures."""
    from pandas import DataFrame

    from amf.data.table import COLUMNS

    rows = DataFrame(
        [vars(figure) | {"soft_label": figure.soft_label} for figure in figures], columns=COLUMNS
    )
    text = dict.fromkeys(rows.columns.difference(["x", "y", "label", "soft_label"]), "str")
    return rows.astype({**text, "x": "Int64", "y": "Int64", "label": "int64", "soft_label": "float64"})


def removed_of(removed: Sequence[Mapping[str, object]]) -> "DataFrame":
    """Rows left out, in the columns of a patch table plus `reason` and `detail`."""
    from pandas import DataFrame

    from amf.data.table import REMOVED_COLUMNS

    return DataFrame([dict(row) for row in removed], columns=REMOVED_COLUMNS)


def label_in(cell: str, spellings: Mapping[str, int] | None = None) -> int:
    """The label of a row; DataError where its cell is empty or another word."""
    label = label_of(cell, spellings)
    if label is None:
        raise DataError("the label is empty, expected one")
    return label


def whole(text: str) -> int:
    """A coordinate in px; DataError where it is no whole number."""
    digits = text.strip()
    if not re.fullmatch("[+-]?[0-9]{1,15}(?:[.]0*)?", digits):
        raise DataError(f"coordinate {text!r} is not a whole number of px")
    return int(digits.partition(".")[0])


def join_domain(*traits: str | None) -> str:
    """The paper's domain: what is known of tumor, scanner, institution and species (section Dataset)."""
    return ", ".join(trait for trait in traits if trait)
