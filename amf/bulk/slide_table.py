"""Many slides, each with its figures and its output, scored one after the other."""

from collections.abc import Sequence
from dataclasses import replace

from amf.bulk.area import read_regions, regions_to_json
from amf.bulk.items import printable
from amf.bulk.join import SLIDE_SUFFIXES, check_output
from amf.bulk.pairs import Pair
from amf.bulk.run import Scorer
from amf.bulk.slides import open_work, part_header
from amf.errors import DataError, Interrupted


def score_pairs(pairs: Sequence[Pair], scorer: Scorer) -> None:
    """Score this process's share of the slides, those whose output is not there yet.

    Raises
    ------
    DataError : slides or figures could not be scored; none of them keeps the others from being scored.
    """
    share = scorer.share
    alone = replace(scorer, shard=None, processes=None)  # with each of its slides
    own = share.of(pairs)
    waiting = [pair for pair in own if not pair.output.exists()]
    faults: list[str] = []
    for number, pair in enumerate(waiting, start=1):
        print(f"slide {number} of {len(waiting)}: {printable(pair.slide)}", flush=True)
        try:
            score_pair(pair, alone)
        except Interrupted:
            raise
        except Exception as error:  # whatever it is, it is the fault of one slide
            sentence = str(error) if isinstance(error, DataError) else f"{type(error).__name__}: {error}"
            faults.append(f"{pair.slide}: {sentence}")
            print(f"  {sentence}", flush=True)
    name = f"share {share}: " if share.count > 1 else ""
    print(
        f"{name}{len(own)} slides: {len(waiting) - len(faults)} scored, {len(faults)} with faults, "
        f"{len(own) - len(waiting)} done before"
    )
    if faults:
        raise DataError(f"{len(faults)} of {len(own)} slides have faults; the first is {faults[0]}")


def score_pair(pair: Pair, scorer: Scorer) -> None:
    """Score a slide's figures, or this process's share of them; DataError names those that have faults."""
    check_output(pair.output, SLIDE_SUFFIXES)
    work = open_work(pair.slide, pair.figures, pair.mpp, pair.classes, pair.boxes)
    regions = [] if pair.area is None else read_regions(pair.area, work.slide, work.mpp)
    for note in work.notes if scorer.share.number == 1 else []:
        print(printable(note))
    header = part_header(work, scorer.predictor, scorer.bundle)
    scorer.score(work.items, pair.output, {**header, "regions": regions_to_json(regions)})
