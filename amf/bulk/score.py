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

from amf.bulk.items import Item, truth_types
from amf.bulk.parts import chunks_of, header_of, line_of, part_path, resume
from amf.bulk.ranks import held
from amf.errors import AmfError, DataError, Interrupted, JobError, account
from amf.inference.predict import Predictor

BATCH_PATCHES = 64
MAX_WORKERS = 8
"""Chunks under way at once, at most: each holds a batch's activations, on many cores too."""

ScoredChunk = tuple[list[tuple[int, int, float]], list[tuple[int, str]]]
"""(item, page, logit) of each figure, and (item, reason) of each file without."""


def score_items(
    items: Sequence[Item],
    predictor: Predictor,
    bundle_digest: str,
    output: Path,
    rank: int = 0,
    world: int = 1,
    by_content: bool = False,
) -> int:
    """Score this rank's share of the items into its part file, going on where an earlier run was ended.

    Parameters
    ----------
    bundle_digest : identifies the bundle; a part file of another one is refused.
    by_content : tell by a file's content whether it has changed since an earlier run was ended, not by its
        size and time alone.

    Returns
    -------
    How many files were scored now; those of an earlier run are not counted.

    Raises
    ------
    DataError : a column of the items cannot be written; the part file was begun with other items or another
        bundle, is being written by another process, or cannot be written.
    Interrupted : the user ended it from the keyboard.
    BundleError : the network cannot score a page, or gave a logit that is not a number.
    """
    truth_types(items)  # rather than when all is scored
    part = part_path(output, rank, world)
    chunks = chunks_of(items)
    own = chunks[rank::world]
    stop, unit = Event(), items[0].unit if items else Item.unit
    try:
        with held(part):
            remaining = own[resume(part, header_of(items, chunks, bundle_digest, by_content)) :]
            total, count = sum(map(len, own)), sum(map(len, remaining))
            with (
                part.open("ab") as file,
                _workers(predictor.device) as pool,
                tqdm(total=total, initial=total - count, unit=unit, disable=True if rank else None) as bar,
            ):
                try:
                    for rows, faults in _score_in_order(items, remaining, predictor, pool, bar, stop):
                        file.write(line_of({"rows": rows, "faults": faults}))
                        file.flush()
                finally:
                    stop.set()  # where one chunk failed, the others need not be finished
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {part} keeps what is scored, and the same command goes on") from None
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
            pages = items[index].read()  # (N, 128, 128, 3)
            if not len(pages):
                raise JobError(f"{items[index].path} holds no page, expected one at least")
            waiting += [(index, page, patch) for page, patch in enumerate(pages)]
        except AmfError as error:
            faults.append((index, str(error)))
        except Exception as error:  # whatever a reader meets in a file is that file's fault, not the run's
            faults.append((index, f"{items[index].path} cannot be read: {type(error).__name__}: {error}"))
        while len(waiting) >= BATCH_PATCHES:
            rows += _score_batch(waiting[:BATCH_PATCHES], predictor)
            del waiting[:BATCH_PATCHES]
        with bar.get_lock():
            bar.update()
    rows += _score_batch(waiting, predictor)
    scored = {item for item, _, _ in rows}
    account(f"files {chunk.start} to {chunk.stop - 1}", len(chunk), len(scored), len(faults))
    return rows, faults


def _score_batch(
    batch: list[tuple[int, int, NDArray[np.uint8]]], predictor: Predictor
) -> list[tuple[int, int, float]]:
    if not batch:
        return []
    logits = predictor.logits(np.stack([patch for _, _, patch in batch])).tolist()  # (B,)
    return [(index, page, logit) for (index, page, _), logit in zip(batch, logits, strict=True)]
