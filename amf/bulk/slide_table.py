"""Many slides, each with its figures and its output, scored one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amf.bulk.ranks import rank_and_world
from amf.bulk.run import raise_faults, score_and_merge
from amf.bulk.slides import SUFFIXES, open_work, slide_writer
from amf.data.loading import read_frame
from amf.errors import DataError
from amf.inference.predict import Predictor


@dataclass(frozen=True)
class Pair:
    """One slide, its figures and the file to write."""

    slide: Path
    figures: Path
    output: Path


def score_pairs(
    pairs: Sequence[Pair], predictor: Predictor, digest: str, mpp: float | None, by_content: bool
) -> None:
    """Score the slides whose output is not there yet; each rank takes every world-th.

    Raises
    ------
    DataError : slides or figures could not be scored; none of them keeps the others from being scored.
    """
    rank, world = rank_and_world()
    own = pairs[rank::world]
    waiting = [pair for pair in own if not pair.output.exists()]
    faults: list[str] = []
    for number, pair in enumerate(waiting, start=1):
        print(f"slide {number} of {len(waiting)}: {pair.slide}", flush=True)
        try:
            score_pair(pair, predictor, digest, mpp, by_content, 0, 1)
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


def score_pair(
    pair: Pair, predictor: Predictor, digest: str, mpp: float | None, by_content: bool, rank: int, world: int
) -> None:
    """Score this rank's share of one slide's figures.

    Raises
    ------
    DataError : some could not be scored, which is said once the others are written.
    """
    work = open_work(pair.slide, pair.figures, mpp)
    for note in work.notes if rank == 0 else []:
        print(note)
    write = slide_writer(work, predictor, digest, pair.output.suffix)
    outcome = score_and_merge(work.items, predictor, digest, pair.output, rank, world, write, by_content)
    if outcome is not None:
        raise_faults(outcome, len(work.items), pair.output, "figure")


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a table with the columns slide, figures and output, relative to its folder.

    Raises
    ------
    DataError : a column or a cell is missing, or an output cannot be written or is named twice.
    """
    table = read_frame(path)
    if missing := [name for name in ("slide", "figures", "output") if name not in table]:
        raise DataError(f"{path} has the columns {', '.join(map(str, table))}; expected {missing[0]!r} too")
    pairs: dict[Path, Pair] = {}
    for number, row in enumerate(table[["slide", "figures", "output"]].itertuples(index=False), start=1):
        if not all(isinstance(value, str) and value for value in row):
            raise DataError(f"{path} row {number} has an empty cell, expected slide, figures and output")
        pair = Pair(*(path.parent / value for value in row))
        check_suffix(pair.output)
        if pair.output in pairs:
            raise DataError(f"{path} row {number}: {pair.output} is written twice, expected distinct outputs")
        pairs[pair.output] = pair
    return list(pairs.values())


def check_suffix(output: Path) -> None:
    """Refuse the name of an output whose format is not known, by a DataError."""
    if output.suffix not in SUFFIXES:
        raise DataError(f"{output} is to be written, expected a name in {', '.join(SUFFIXES)}")
