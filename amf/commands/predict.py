"""`amf predict`: folders, files, globs or tables of patches and stacks in; one table out."""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from amf.bulk.items import Found, Item, find_items
from amf.bulk.merge import TABLE_SUFFIXES, Merged, Write, errors_path, merge
from amf.bulk.ranks import rank_and_world
from amf.bulk.score import score_items
from amf.errors import DataError
from amf.files import file_to_write
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.digest import FILE_NAME, file_digest
from amf.model.spec import VIEWS

BUILT_IN_MODEL = Path(__file__).resolve().parents[2] / "model"
"""The checkout's; an installed package has none, and then --model must be given."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="folder, patch (PNG, …), stack (TIFF, MHA), quoted glob, or table (.csv, .parquet) of images",
    )
    parser.add_argument(
        "--output", type=file_to_write, required=True, metavar="TABLE", help=".csv, .parquet or .json"
    )
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="of a table's images; default: the table's folder"
    )
    add_model_arguments(parser)
    add_speed_arguments(parser)


def add_speed_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --members and --views, which trade accuracy for speed."""
    parser.add_argument("--members", type=int, metavar="N", help="score with the first N networks alone")
    parser.add_argument(
        "--views", type=int, choices=VIEWS, help="score each patch in at most so many of its 8 symmetries"
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare --model and --device."""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        default=BUILT_IN_MODEL,
        required=not BUILT_IN_MODEL.is_dir(),
        help="bundle; default: the checkout's",
    )
    parser.add_argument(
        "--hash",
        action="store_true",
        help="a resumed run tells by their content which files have changed, not by size and time alone",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(arguments: argparse.Namespace) -> int:
    """Score everything; ends with an error once the table is written if any file could not be scored."""
    output: Path = arguments.output
    if output.suffix not in TABLE_SUFFIXES:
        raise DataError(f"{output} is to be the table, expected a name in {', '.join(TABLE_SUFFIXES)}")
    if output.exists():
        raise DataError(f"{output} exists already: delete it, or name another output")
    rank, world = rank_and_world()
    found = find_items(arguments.inputs, arguments.root)
    _say_what_is_left_out(found)
    predictor, digest = open_predictor(arguments)
    outcome = score_and_merge(found.items, predictor, digest, output, rank, world, by_content=arguments.hash)
    if outcome is not None:
        raise_faults(outcome, len(found.items), output)
    return 0


def _say_what_is_left_out(found: Found) -> None:
    if found.others:
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(found.others.items()))
        print(f"{found.others.total()} files are no images by their suffix and are left out: {kinds}")


def open_predictor(arguments: argparse.Namespace) -> tuple[Predictor, str]:
    """The bundle of --model, narrowed as asked, on --device; and what identifies it: a SHA-256, and how."""
    if torch.cuda.is_available() and arguments.device != "cpu":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    loaded = bundle.load(arguments.model).narrowed(arguments.members, arguments.views)
    # bundle.json holds the weights' hashes, so that its own stands for the whole bundle.
    digest = file_digest(arguments.model / FILE_NAME)
    narrowed = {"members": arguments.members, "views": arguments.views}
    how = "".join(f" {name}={value}" for name, value in narrowed.items() if value is not None)
    return Predictor(loaded, arguments.device), digest + how


def score_and_merge(
    items: Sequence[Item],
    predictor: Predictor,
    digest: str,
    output: Path,
    rank: int,
    world: int,
    write: Write | None = None,
    by_content: bool = False,
) -> Merged | None:
    """Score this rank's share and wait until all are through: rank 0 writes the output, others give None."""
    started = time.perf_counter()
    scored = score_items(items, predictor, digest, output, rank, world, by_content)
    seconds = time.perf_counter() - started
    of_rank = f"rank {rank} of {world}: " if world > 1 else ""
    unit = items[0].unit if items else "file"
    print(f"{of_rank}scored {scored} {unit}s in {seconds:.1f} s, {scored / seconds:.0f} a second")
    outcome = merge(items, predictor, output, rank, world, write)
    if outcome is not None:
        print(f"wrote {output} with {outcome.figures} figures")
    return outcome


def raise_faults(outcome: Merged, given: int, output: Path, unit: str = "file") -> None:
    """End with one sentence where some could not be scored.

    Raises
    ------
    DataError : says how many, and names the first.
    """
    if outcome.faults:
        image, reason = outcome.faults[0]
        raise DataError(
            f"{len(outcome.faults)} of {given} {unit}s could not be scored and are listed in "
            f"{errors_path(output)}; the first is {image}: {reason}"
        )
