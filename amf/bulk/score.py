"""Files → rows of the table: several chunks at a time, each read and scored by a thread of its own."""

from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
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

MAX_WORKERS = 8
"""Chunks under way at once, at most: each holds a batch's activations, on many cores too."""

Rows = list[dict[str, Any]]


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
    header = {**parts.header_of(items, chunks, share, bundle, by_content), **(more or {})}
    cores = torch.get_num_threads()
    # Threads that have cores of their own wait less than those that share every step. Beside a GPU they read
    # files while others' batches are scored, however few cores there are.
    workers = MAX_WORKERS if predictor.device.type == "cuda" else min(cores, MAX_WORKERS)
    lock, stop = Lock(), Event()
    try:
        with (
            parts.continued(part, header) as (file, done),
            ThreadPoolExecutor(workers, "score", torch.set_num_threads, (max(1, cores // workers),)) as pool,
            tqdm(desc=f"share {share}", unit=header["unit"], disable=None) as bar,
        ):
            own = share.of(range(len(chunks)))
            waiting = [number for number in own if number not in done]
            count = sum(len(chunks[number]) for number in waiting)
            bar.reset(total=sum(len(chunks[number]) for number in own))
            bar.update(bar.total - count)

            def work(number: int) -> None:
                rows, faults = _score_chunk([items[index] for index in chunks[number]], predictor, stop)
                with lock:
                    if not stop.is_set():
                        parts.append(file, {"chunk": number, "rows": rows, "faults": faults})
                        bar.update(len(chunks[number]))

            try:
                for future in wait(
                    [pool.submit(work, number) for number in waiting], return_when=FIRST_EXCEPTION
                ).done:
                    future.result()
            finally:
                stop.set()  # where one chunk failed, the others need not be finished
                pool.shutdown(cancel_futures=True)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {part} keeps what is scored, and the same command goes on") from None
    except OSError as error:
        raise DataError(f"{part} cannot be written: {error.strerror or error}") from error
    finally:
        torch.set_num_threads(cores)
    return count


def _score_chunk(chunk: Sequence[Item], predictor: Predictor, stop: Event) -> tuple[Rows, Rows]:
    """Read and score the files of one chunk, unless the run is to stop: rows, and faults of the others."""
    read: list[tuple[Item, NDArray[np.uint8]]] = []
    faults: Rows = []
    for item in chunk:
        if stop.is_set():
            return [], []
        try:
            pages = item.read()  # (N, 128, 128, 3)
            if not len(pages):
                raise JobError(f"{item.path} holds no page, expected one at least")
            read.append((item, pages))
        except Exception as error:  # whatever a reader meets in a file is that file's fault, not the run's
            reason = f"{item.path} cannot be read: {type(error).__name__}: {error}"
            reason = printable(str(error) if isinstance(error, AmfError) else reason)
            faults.append({"number": item.number, "image": item.image, "error": reason})
    rows = _rows(read, predictor) if read else []
    account("files of a chunk", len(chunk), len({row["number"] for row in rows}), len(faults))
    return rows, faults


def _rows(read: Sequence[tuple[Item, NDArray[np.uint8]]], predictor: Predictor) -> Rows:
    """A row of the table for each page, with the place of its item among all."""
    figures = [(item, page) for item, pages in read for page in range(len(pages))]
    logits = predictor.logits(np.concatenate([pages for _, pages in read])).tolist()  # (N,)
    answers = map(predictor.decide, logits)
    return [
        {
            "number": item.number,
            "image": item.image,
            "page": page if item.is_stack else None,
            "class": answer.label,
            "confidence": answer.confidence,
            "logit": logit,
            "threshold": predictor.spec.threshold,
            **item.truth,
        }
        for (item, page), logit, answer in zip(figures, logits, answers, strict=True)
    ]
