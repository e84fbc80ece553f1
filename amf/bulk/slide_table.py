"""Many slides, each with its figures and its output, scored one after the other."""

from collections.abc import Sequence

from amf.bulk.area import read_regions, write_counts
from amf.bulk.pairs import Asked, Pair
from amf.bulk.ranks import rank_and_world
from amf.bulk.run import raise_faults, score_and_merge
from amf.bulk.slides import open_work, slide_writer
from amf.errors import DataError
from amf.inference.predict import Predictor


def score_pairs(
    pairs: Sequence[Pair], predictor: Predictor, digest: str, asked: Asked, by_content: bool
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
            score_pair(pair, predictor, digest, asked, by_content, 0, 1)
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
    pair: Pair, predictor: Predictor, digest: str, asked: Asked, by_content: bool, rank: int, world: int
) -> None:
    """Score this rank's share of one slide's figures.

    Raises
    ------
    DataError : some could not be scored, which is said once the others are written.
    """
    work = open_work(pair.slide, pair.figures, pair.mpp or asked.mpp, asked.classes, asked.boxes)
    area = pair.area or asked.area
    regions = read_regions(area, work.slide, work.mpp) if area is not None and rank == 0 else []
    for note in work.notes if rank == 0 else []:
        print(note)
    write = slide_writer(work, predictor, digest, pair.output.suffix)
    outcome = score_and_merge(work.items, predictor, digest, pair.output, rank, world, write, by_content)
    if outcome is not None:
        if regions:
            write_counts(pair.output, regions)
        raise_faults(outcome, len(work.items), pair.output, "figure")
