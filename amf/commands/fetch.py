"""`amf fetch`: published data sets, checked and unpacked to where `amf data` reads them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import pairs
from amf.data.fetch import fetch
from amf.data.repositories import DATASETS, Record, dataset
from amf.files import folder_to_write


def run(
    names: Annotated[list[str], Argument(metavar="NAME...", help=f"of {', '.join(DATASETS)}")],
    root: Annotated[
        Path, Option(parser=folder_to_write, metavar="DIR", help="folder that data recipes are relative to")
    ],
    accept_licence: Annotated[
        bool, Option("--accept-licence", help="the licences are accepted; else each is asked for")
    ] = False,
    name: Annotated[
        list[str] | None,
        Option(
            metavar="PLACE=PUBLISHED",
            help="what the publisher calls the file or folder that `amf data` reads at PLACE, below --root",
        ),
    ] = None,
) -> None:
    """Fetch one data set after the other; every one that is complete stays if a later one fails."""
    places = {wanted: dataset(wanted).places for wanted in names}
    changes = pairs("--name", name, sorted({place for own in places.values() for place in own}))
    for wanted, own in places.items():
        published = {place: changes[place] for place in own if place in changes}
        fetched = fetch(wanted, root, acknowledge(accept_licence), published)
        print(f"{wanted}: {'fetched, as in the record' if fetched else 'there already'}", flush=True)


def acknowledge(accepted: bool) -> Callable[[Record], bool]:
    """Show what a record is and under which licence; accepted by the flag, or by a yes on a terminal."""

    def answer(record: Record) -> bool:
        size = f"{record.size / 1e9:.2f} GB" if record.size else "size not stated"
        print(
            f"{record.title}\n  {record.page}, {len(record.urls)} files, {size}\n  licence: {record.licence}"
        )
        if accepted:
            print("  accepted by --accept-licence", flush=True)
            return True
        if not sys.stdin.isatty():
            return False
        return input("  accept it? [y/N] ").strip().lower() in ("y", "yes")

    return answer
