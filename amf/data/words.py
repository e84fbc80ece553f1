"""The field's words, in any case and spacing: labels, votes, and which categories name a mitotic figure.

All other modules ask here, so that a word is understood alike in every table and by every command.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from amf.errors import DataError

if TYPE_CHECKING:
    from pandas import Series

LABELS_EXPECTED = "AMF or NMF, atypical or normal, True or False, yes or no, 1 or 0"

_MITOSIS = r"(?:mitos(?:[ei]s?|en)|mitotic(?:figures?|cells?|events?)?|mfs?)"
_FIGURE = rf"(?:{_MITOSIS}|figures?)"
_ATYPICAL = rf"(?:amfs?|atypical{_FIGURE}?|{_FIGURE}atypical)"
_NORMAL = rf"(?:nmfs?|(?:normal|typical){_FIGURE}?|{_FIGURE}(?:normal|typical)|no[nt]{_ATYPICAL})"

AMF = re.compile(rf"{_ATYPICAL}|true|yes|[ty1]")
NMF = re.compile(rf"{_NORMAL}|false|no|[fn0]")
UNSURE = re.compile("unsure|notsure|uncertain|unclear|undecided|unknown|dontknow")
EMPTY = re.compile("|na|nan|none|null")
MITOTIC_FIGURE = re.compile(rf"true{_MITOSIS}|{_MITOSIS}|{_ATYPICAL}|{_NORMAL}")
LOOK_ALIKE = re.compile(
    rf"(?:non?|not)a?{_MITOSIS}|negatives?|"
    rf".*(?:hardnegative|falsepositive|look(?:ing)?alike|impost[eo]r|mimic|pseudo{_MITOSIS}|{_MITOSIS}like).*"
)


def label_of(value: object, spellings: Mapping[str, int] | None = None) -> int | None:
    """Read a label: 1 for an AMF, 0 for an NMF, None where the cell is empty.

    Parameters
    ----------
    value : a cell of any table: text, bool, number, or what pandas calls missing.
    spellings : the words of this table and their labels, in place of those that are always understood.

    Raises
    ------
    DataError : another word.
    """
    key = _key(value)
    if spellings is not None:
        expected = ", ".join(spellings)
        label = {_key(word): label for word, label in spellings.items()}.get(key)
    else:
        expected = LABELS_EXPECTED
        label = 1 if AMF.fullmatch(key) else 0 if NMF.fullmatch(key) else None
    if label is None and not EMPTY.fullmatch(key):
        raise DataError(f"the label is {str(value)!r}, expected {expected}")
    return label


def labels_in(column: "Series[Any]", source: str) -> "Series[int]":
    """The labels or classes of a table's column, as `label_of`; DataError names the first faulty row."""
    labels: dict[Any, int] = {}
    for row, word in enumerate(column, start=1):
        if word not in labels:
            try:
                label = label_of(word)
            except DataError as error:
                fault = str(error).replace("the label", f"the {column.name}", 1)
                raise DataError(f"{source}, row {row}: {fault}") from None
            if label is None:
                raise DataError(
                    f"{source}, row {row}: the {column.name} is empty, expected {LABELS_EXPECTED}"
                )
            labels[word] = label
    return column.map(labels).astype("int64")


def vote_of(value: object, spellings: Mapping[str, int] | None = None) -> int | None:
    """Read an expert's vote, as `label_of`; None where the expert was unsure, too."""
    own = spellings is not None and value in spellings
    return None if UNSURE.fullmatch(_key(value)) and not own else label_of(value, spellings)


def votes_of(cells: Iterable[object], spellings: Mapping[str, int] | None = None) -> str:
    """The votes given as a compact string: "110" is AMF, AMF, NMF."""
    votes = (vote_of(cell, spellings) for cell in cells)
    return "".join(str(vote) for vote in votes if vote is not None)


def names_mitotic_figure(category: object) -> bool | None:
    """Whether a category is of mitotic figures: True, False for look-alikes, None for other words."""
    key = _key(category)
    if LOOK_ALIKE.fullmatch(key):
        return False
    return True if MITOTIC_FIGURE.fullmatch(key) else None


def _key(value: object) -> str:
    return _word(str(value))


@lru_cache(maxsize=1024)
def _word(text: str) -> str:
    """A word without case, spaces and signs; "0" or "1" for "1.0" and the like, another number as it is."""
    text = text.strip().casefold()
    if number := re.fullmatch(r"[+]?([01])([.,]0*)?", text):
        return number[1]
    return text if re.search("[0-9]", text) else "".join(filter(str.isalnum, text))
