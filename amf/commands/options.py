"""The arguments that several commands share."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from amf.bulk.shares import Share, share_named
from amf.errors import DataError
from amf.files import folder_to_write

Recipe = Annotated[Path, Argument(help="YAML recipe")]
Data = Annotated[Path, Option(metavar="DIR", help="folder that `amf data` wrote")]
Out = Annotated[
    Path, Option(parser=folder_to_write, metavar="DIR", help="folder for the folds and the table")
]
Fold = Annotated[
    str | None,
    Option(metavar="K", help="run this fold alone, by number from 0 or by name, and join nothing"),
]
Collect = Annotated[bool, Option("--collect", help="join the finished folds, run nothing")]
Seeds = Annotated[
    list[int] | None, Option(metavar="N...", help="a member each, in place of the recipe's own seed")
]
Lodo = Annotated[
    list[Path] | None,
    Option(metavar="DIR...", help="folders that `amf lodo` has joined; their members are one ensemble"),
]

Model = Annotated[Path | None, Option(metavar="DIR", help="bundle; by default the one that ships")]
Device = Annotated[Literal["auto", "cpu", "cuda"], Option(help="where the networks run")]
Members = Annotated[int | None, Option(metavar="N", help="score with the first N networks alone")]
Views = Annotated[
    Literal[1, 2, 4, 8] | None, Option(help="score each patch in at most so many of its 8 symmetries")
]
ByContent = Annotated[
    bool,
    Option(
        "--hash",
        help="a resumed run tells by their content which files have changed, not by size and time alone",
    ),
]
Shard = Annotated[
    Share | None,
    Option(parser=share_named, metavar="K/N", help="score the K-th of N shares into a part, for `amf join`"),
]
Columns = Annotated[
    list[str] | None,
    Option(
        "--column",
        metavar="OURS=THEIRS",
        help="what the tables call a column, as in image=file; may be given several times",
    ),
]


def pairs(flag: str, given: list[str] | None, known: Collection[str]) -> dict[str, str]:
    """Read an option given several times as NAME=VALUE, each name one of `known`; else DataError."""
    found: dict[str, str] = {}
    for text in given or []:
        name, _, value = text.partition("=")
        if not name or not value:
            raise DataError(f"{flag} is {text!r}, expected NAME=VALUE")
        if name not in known:
            raise DataError(f"{flag} names {name!r}, expected one of {', '.join(known)}")
        found[name] = value
    return found
