"""`amf fetch`: published data sets, checked and unpacked to where `amf data` reads them."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from amf.data.fetch import DATASETS, Record, fetch
from amf.errors import DataError
from amf.files import folder_to_write


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"of {', '.join(DATASETS)}")
    parser.add_argument(
        "--root", type=folder_to_write, required=True, help="folder that data recipes are relative to"
    )
    parser.add_argument(
        "--accept-licence", action="store_true", help="the licences are accepted; else each is asked for"
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="PLACE=PUBLISHED",
        help="what the publisher calls the file or folder that `amf data` reads at PLACE, below --root",
    )


def run(arguments: Namespace) -> int:
    """Fetch one data set after the other; every one that is complete stays if a later one fails."""
    changes = dict(_split(text) for text in arguments.name)
    places = {place for name in arguments.names if name in DATASETS for place in DATASETS[name].places}
    if unknown := sorted(set(changes) - places):
        raise DataError(f"--name gives {', '.join(unknown)}, expected one of {', '.join(sorted(places))}")
    for name in arguments.names:
        own = DATASETS[name].places if name in DATASETS else {}
        names = {place: changes[place] for place in own if place in changes}
        done = fetch(name, arguments.root, acknowledge(arguments.accept_licence), names)
        print(f"{name}: {done.how}", flush=True)
    return 0


def acknowledge(accepted: bool) -> Callable[[Record], bool]:
    """Show what a record is and under which licence; accepted by the flag, or by a yes on a terminal."""

    def answer(record: Record) -> bool:
        size = f"{record.size / 1e9:.2f} GB" if record.size else "size not stated"
        print(
            f"{record.title}\n  {record.page}, {len(record.files)} files, {size}\n  licence: {record.licence}"
        )
        if accepted:
            print("  accepted by --accept-licence", flush=True)
            return True
        if not sys.stdin.isatty():
            return False
        return input("  accept it? [y/N] ").strip().lower() in ("y", "yes")

    return answer


def _split(text: str) -> tuple[str, str]:
    place, equals, published = text.partition("=")
    if not equals or not published:
        raise DataError(f"--name is {text!r}, expected PLACE=PUBLISHED")
    return place, published
