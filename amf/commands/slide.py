"""`amf slide`: a slide and the places of its mitotic figures in; the figures with their classes out."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from amf.bulk.merge import Merged
from amf.bulk.ranks import rank_and_world
from amf.bulk.slides import SUFFIXES, open_work, slide_writer
from amf.commands.predict import (
    add_model_arguments,
    add_speed_arguments,
    open_predictor,
    raise_faults,
    score_and_merge,
)
from amf.data.loading import read_frame
from amf.errors import DataError
from amf.files import file_to_write
from amf.inference.predict import Predictor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "slide", nargs="?", type=Path, help="whatever OpenSlide reads, or a plain TIFF (MIDOG's regions)"
    )
    parser.add_argument(
        "figures",
        nargs="?",
        type=Path,
        help="QuPath GeoJSON, MIDOG JSON, SlideRunner SQLite, or CSV or Parquet with x and y (px)",
    )
    parser.add_argument(
        "--output",
        type=file_to_write,
        metavar="OUT",
        help=f"{', '.join(SUFFIXES)}; JSON is GeoJSON for QuPath",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="PAIRS",
        help="many at once: .csv or .parquet with the columns slide, figures, output, relative to its "
        "folder; outputs that exist are left as they are",
    )
    parser.add_argument(
        "--mpp",
        type=_positive,
        metavar="X",
        help="µm/px of the slide's finest level; default: the file's own",
    )
    add_model_arguments(parser)
    add_speed_arguments(parser)


@dataclass(frozen=True)
class Pair:
    """One slide, its figures and the file to write."""

    slide: Path
    figures: Path
    output: Path


def run(arguments: argparse.Namespace) -> int:
    """Classify the figures; ends with an error once everything is written if any could not be scored."""
    single = [arguments.slide, arguments.figures, arguments.output]
    if arguments.table is not None and single == [None] * 3:
        return _run_table(arguments)
    if arguments.table is not None or None in single:
        raise DataError("`amf slide` needs SLIDE, FIGURES and --output, or --table and none of them")
    pair = Pair(*single)
    _check_suffix(pair.output)
    if pair.output.exists():
        raise DataError(f"{pair.output} exists already: delete it, or name another output")
    predictor, digest = open_predictor(arguments)
    outcome, given = _score(pair, predictor, digest, arguments.mpp, *rank_and_world())
    if outcome is not None:
        raise_faults(outcome, given, pair.output, "figure")
    return 0


def _run_table(arguments: argparse.Namespace) -> int:
    """Each rank takes every world-th slide; one that fails does not keep the others from being scored."""
    rank, world = rank_and_world()
    pairs = list(_read_pairs(arguments.table))
    own = pairs[rank::world]
    waiting = [pair for pair in own if not pair.output.exists()]
    predictor, digest = open_predictor(arguments)
    faults: list[str] = []
    for number, pair in enumerate(waiting, start=1):
        print(f"slide {number} of {len(waiting)}: {pair.slide}", flush=True)
        try:
            outcome, given = _score(pair, predictor, digest, arguments.mpp, 0, 1)
            if outcome is not None:
                raise_faults(outcome, given, pair.output, "figure")
        except DataError as error:
            faults.append(f"{pair.slide}: {error}")
            print(f"  {error}", flush=True)
    of_rank = f"rank {rank} of {world}: " if world > 1 else ""
    print(
        f"{of_rank}{len(own)} slides: {len(waiting) - len(faults)} scored, {len(faults)} with faults, "
        f"{len(own) - len(waiting)} done before"
    )
    if faults:
        raise DataError(f"{len(faults)} of {len(own)} slides have faults; the first is {faults[0]}")
    return 0


def _score(
    pair: Pair, predictor: Predictor, digest: str, mpp: float | None, rank: int, world: int
) -> tuple[Merged | None, int]:
    """Score one slide by the engine of `amf predict`: what came out, and how many figures were given."""
    work = open_work(pair.slide, pair.figures, mpp)
    for note in work.notes if rank == 0 else []:
        print(note)
    write = slide_writer(work, predictor, digest, pair.output.suffix)
    outcome = score_and_merge(work.items, predictor, digest, pair.output, rank, world, write)
    return outcome, len(work.items)


def _read_pairs(path: Path) -> Iterator[Pair]:
    table = read_frame(path)
    if missing := [name for name in ("slide", "figures", "output") if name not in table]:
        raise DataError(f"{path} has the columns {', '.join(map(str, table))}; expected {missing[0]!r} too")
    seen: set[Path] = set()
    for number, row in enumerate(table[["slide", "figures", "output"]].itertuples(index=False), start=1):
        if not all(isinstance(value, str) and value for value in row):
            raise DataError(f"{path} row {number} has an empty cell, expected slide, figures and output")
        pair = Pair(*(path.parent / value for value in row))
        _check_suffix(pair.output)
        if pair.output in seen:
            raise DataError(f"{path} row {number}: {pair.output} is written twice, expected distinct outputs")
        seen.add(pair.output)
        yield pair


def _check_suffix(output: Path) -> None:
    if output.suffix not in SUFFIXES:
        raise DataError(f"{output} is to be written, expected a name in {', '.join(SUFFIXES)}")


def _positive(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{value} is no resolution in µm/px, expected 0.01 to 100")
    return value
