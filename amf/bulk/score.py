"""Files → logits: several chunks at a time, each read and scored by a thread of its own."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from amf.bulk import parts
from amf.bulk.items import Item, printable
from amf.bulk.shares import Share
from amf.errors import AmfError, DataError, Interrupted, JobError, account
from amf.inference.predict import Predictor

BATCH_PATCHES = 64
MAX_WORKERS = 8
"""Chunks under way at once, at most: each holds a batch's activations, on many cores too."""

Page = tuple[Item, int, NDArray[np.uint8]]
"""A figure's item, its page within it, and its (128, 128, 3) patch."""


def score_share(
    items: Sequence[Item],
    predictor: Predictor,
    bundle: str,
    output: Path,
    share: Share,
    by_content: bool = False,
    more: Mapping[str, Any] | None = None,
) -> int:
    """Score a share of the items into its part file, going on where an earlier run was ended.

    Parameters
    ----------
    bundle : identifies the bundle; a part file of another one is refused.
    by_content : tell by a file's content whether it has changed since an earlier run was ended, not by its
        size and time alone.
    more : what the part's header says besides, for who joins the parts.

    Returns
    -------
    How many items were scored now; those of an earlier run are not counted.

    Raises
    ------
    DataError : the part file was begun with other items or another bundle, or cannot be written.
    Interrupted : the user ended it from the keyboard.
    BundleError : the network cannot score a page, or gave a logit that is not a number.
    """
    part, chunks = share.part(output), parts.chunks_of(items)
    own = share.of(range(len(chunks)))
    header = {**parts.header_of(items, chunks, share, bundle, by_content), **(more or {})}
    lock, stop = Lock(), Event()
    try:
        with parts.continued(part, header) as (file, done), _workers(predictor.device) as pool:
            remaining = [number for number in own if number not in done]
            total = sum(len(chunks[number]) for number in own)
            count = sum(len(chunks[number]) for number in remaining)
            name = f"share {share}" if share.count > 1 else None
            with tqdm(
                desc=name, total=total, initial=total - count, unit=header["unit"], disable=None
            ) as bar:

                def work(number: int) -> None:
                    chunk = [items[position] for position in chunks[number]]
                    rows, faults = _score_chunk(chunk, predictor, stop)
                    if stop.is_set():
                        return
                    with lock:
                        parts.append(file, {"chunk": number, "rows": rows, "faults": faults})
                        bar.update(len(chunk))

                try:
                    futures = [pool.submit(work, number) for number in remaining]
                    for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                        future.result()
                finally:
                    stop.set()  # where one chunk failed, the others need not be finished
                    pool.shutdown(cancel_futures=True)
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


def _score_chunk(
    chunk: Sequence[Item], predictor: Predictor, stop: Event
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Read and score the files of one chunk in batches: rows of the table and of the list of faults.

    Where the run is to stop, what is returned is of no use.
    """
    rows: list[dict[str, Any]] = []
    faults: list[dict[str, Any]] = []
    waiting: list[Page] = []
    for item in chunk:
        if stop.is_set():
            return [], []
        try:
            pages = item.read()  # (N, 128, 128, 3)
            if not len(pages):
                raise JobError(f"{item.path} holds no page, expected one at least")
            waiting += [(item, page, patch) for page, patch in enumerate(pages)]
        except AmfError as error:
            faults.append(_fault(item, str(error)))
        except Exception as error:  # whatever a reader meets in a file is that file's fault, not the run's
            faults.append(_fault(item, f"{item.path} cannot be read: {type(error).__name__}: {error}"))
        while len(waiting) >= BATCH_PATCHES:
            rows += _score_batch(waiting[:BATCH_PATCHES], predictor)
            del waiting[:BATCH_PATCHES]
    rows += _score_batch(waiting, predictor)
    scored = {row["number"] for row in rows}
    account("files of a chunk", len(chunk), len(scored), len(faults))
    return rows, faults


def _score_batch(batch: Sequence[Page], predictor: Predictor) -> list[dict[str, Any]]:
    if not batch:
        return []
    logits = predictor.logits(np.stack([patch for _, _, patch in batch])).tolist()  # (B,)
    return [_row(item, page, logit, predictor) for (item, page, _), logit in zip(batch, logits, strict=True)]


def _row(item: Item, page: int, logit: float, predictor: Predictor) -> dict[str, Any]:
    """A row of the table, and the place of its item among all."""
    answer = predictor.decide(logit)
    return {
        "number": item.number,
        "image": item.image,
        "page": page if item.is_stack else None,
        "class": answer.label,
        "confidence": answer.confidence,
        "logit": logit,
        "threshold": predictor.spec.threshold,
        **item.truth,
    }


def _fault(item: Item, reason: str) -> dict[str, Any]:
    return {"number": item.number, "image": printable(item.image), "error": printable(reason)}
