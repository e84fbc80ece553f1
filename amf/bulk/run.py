"""Score items and write what came of them: what `amf predict` and `amf slide` share."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from amf.bulk.items import Item
from amf.bulk.merge import Merged, Write, errors_path, merge
from amf.bulk.score import score_items
from amf.errors import DataError
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.digest import FILE_NAME, file_digest
from amf.model.shipped import shipped_bundle


def open_predictor(
    model: Path | None, device: str = "auto", members: int | None = None, views: int | None = None
) -> tuple[Predictor, str]:
    """The bundle, or the one that ships, narrowed as asked; and what identifies it: a SHA-256, and how."""
    folder = model or shipped_bundle()
    if torch.cuda.is_available() and device != "cpu":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    loaded = bundle.load(folder).narrowed(members, views)
    # bundle.json holds the weights' hashes, so that its own stands for the whole bundle.
    digest = file_digest(folder / FILE_NAME)
    narrowed = {"members": members, "views": views}
    how = "".join(f" {name}={value}" for name, value in narrowed.items() if value is not None)
    return Predictor(loaded, device), digest + how


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
