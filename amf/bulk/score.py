"""Files → logits: several chunks at a time, each read and scored by a thread of its own."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from amf.bulk.items import Item
from amf.bulk.parts import chunks_of, header_of, line_of, part_path, resume
from amf.errors import DataError, JobError
from amf.inference.predict import Predictor

BATCH_PATCHES = 64
MAX_WORKERS = 8
"""Chunks under way at once, at most: each holds a batch's activations, on many cores too."""

ScoredChunk = tuple[list[tuple[int, int, float]], list[tuple[int, str]]]
"""(item, page, logit) of each figure, and (item, reason) of each file without."""


def score(
    items: Sequence[Item],
    predictor: Predictor,
    bundle_digest: str,
    output: Path,
    rank: int = 0,
    world: int = 1,
) -> int:
    """Score this rank's share of the items into its part file, going on where an earlier run was ended.

    Parameters
    ----------
    bundle_digest : identifies the bundle; a part file of another one is refused.

    Returns
    -------
    How many files were scored now; those of an earlier run are not counted.

    Raises
    ------
    DataError : the part file was begun with other items or another bundle, or cannot be written.
    DeviceError : the network gave a logit that is not a number.
    """
    part = part_path(output, rank, world)
    chunks = chunks_of(items)
    own = chunks[rank::world]
    stop, unit = Event(), items[0].unit if items else Item.unit
    try:
        remaining = own[resume(part, header_of(items, chunks, bundle_digest)) :]
        total, count = sum(map(len, own)), sum(map(len, remaining))
        with (
            part.open("ab") as file,
            _workers(predictor.device) as pool,
            tqdm(
                total=total,
                initial=total - count,
                unit=unit,
                disable=True if rank else None,
            ) as bar,
        ):
            try:
                for rows, faults in _score_in_order(items, remaining, predictor, pool, bar, stop):
                    file.write(line_of({"rows": rows, "faults": faults}))
                    file.flush()
            finally:
                stop.set()  # where one chunk failed, the others need not be finished
    except OSError as error:
        raise DataError(f"{part} cannot be written: {error.strerror or error}") from error
    return count


@contextmanager
def _workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that score a chunk each, on a share of the cores: they wait less than by sharing every step.

    Beside a GPU they read files while others' batches are scored, however few cores torch may use.
    """
    cores = torch.get_num_threads()
    count = MAX_WORKERS if device.type == "cuda" else min(cores, MAX_WORKERS)
    share = max(1, cores // count)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)


def _score_in_order(
    items: Sequence[Item],
    chunks: Sequence[range],
    predictor: Predictor,
    pool: ThreadPoolExecutor,
    bar: "tqdm[Any]",
    stop: Event,
) -> Iterator[ScoredChunk]:
    """Score the chunks, some at a time, and give them in their order; a bounded number waits to be taken."""
    held: deque[Future[ScoredChunk]] = deque()
    for chunk in chunks:
        held.append(pool.submit(_score_chunk, items, chunk, predictor, bar, stop))
        if len(held) > MAX_WORKERS:
            yield held.popleft().result()
    while held:
        yield held.popleft().result()


def _score_chunk(
    items: Sequence[Item], chunk: range, predictor: Predictor, bar: "tqdm[Any]", stop: Event
) -> ScoredChunk:
    """Read and score the files of one chunk in batches, unless the run is to stop."""
    rows: list[tuple[int, int, float]] = []
    faults: list[tuple[int, str]] = []
    waiting: list[tuple[int, int, NDArray[np.uint8]]] = []
    for index in chunk:
        if stop.is_set():
            return [], []  # which nobody takes
        try:
            waiting += [(index, page, patch) for page, patch in enumerate(items[index].read())]
        except JobError as error:
            faults.append((index, str(error)))
        while len(waiting) >= BATCH_PATCHES:
            rows += _score_batch(waiting[:BATCH_PATCHES], predictor)
            del waiting[:BATCH_PATCHES]
        with bar.get_lock():
            bar.update()
    return rows + _score_batch(waiting, predictor), faults


def _score_batch(
    batch: list[tuple[int, int, NDArray[np.uint8]]], predictor: Predictor
) -> list[tuple[int, int, float]]:
    if not batch:
        return []
    logits = predictor.logits(np.stack([patch for _, _, patch in batch])).tolist()  # (B,)
    return [(index, page, logit) for (index, page, _), logit in zip(batch, logits, strict=True)]
