"""Score any number of files into one table: find them, score them in chunks, keep what is done, merge.

The files are cut into chunks of a fixed size. Each rank scores every world-th chunk, several at a time,
and appends one line a chunk to its part file, so that a killed run goes on after the last whole chunk. The
batches of a chunk never depend on where a run began or on how many share the work: the table is the same to
the last bit.
"""

import csv
import glob
import hashlib
import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from amf.errors import DataError, JobError
from amf.pages import is_stack, read_pages
from amf.predict import Predictor
from amf.stack import SUFFIXES

PATCH_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TABLE_SUFFIXES = (".csv", ".parquet", ".json")
TRUTH_COLUMNS = ("label", "slide", "domain")
"""Columns of an input table that are passed on, so that the output can be evaluated as it is."""

CHUNK_FILES = 64
BATCH_PATCHES = 64
MAX_WORKERS = 8
"""Chunks under way at once, at most: each holds a batch's activations, on many cores too."""


@dataclass(frozen=True)
class Item:
    """One file to score: its name in the table, where it lies, and what the input table knew of it."""

    image: str
    path: Path
    truth: Mapping[str, Any] = field(default_factory=dict)


ScoredChunk = tuple[list[tuple[int, int, float]], list[tuple[int, str]]]
"""(item, page, logit) of each figure, and (item, reason) of each file without."""


@dataclass(frozen=True)
class Outcome:
    """A finished table: the figures in it, and (image, reason) for every file that could not be scored."""

    figures: int
    faults: list[tuple[str, str]]


def find_items(inputs: Sequence[str], root: Path | None = None) -> list[Item]:
    """List the files that the inputs mean.

    Parameters
    ----------
    inputs : folders (searched to the bottom; images are named relative to the folder), files, glob patterns,
        and tables (.csv, .parquet) with a column `image` and optionally label, slide and domain.
    root : what the images of a table are relative to; by default the table's own folder.

    Raises
    ------
    DataError : an input does not exist, holds no image, or an image is named twice.
    """
    items: list[Item] = []
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = [Item(file.relative_to(path).as_posix(), file) for file in _images_below(path)]
        elif path.is_file() and path.suffix in (".csv", ".parquet"):
            found = _read_item_table(path, root or path.parent)
        elif path.is_file():
            found = [Item(given, path)]
        else:
            matches = sorted(glob.glob(given, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
            found = [Item(match, Path(match)) for match in matches if Path(match).is_file()]
        if not found:
            raise DataError(
                f"{given} is, holds or matches no image, expected patches, stacks or a table of them"
            )
        items += found
    seen = set()
    for item in items:
        if item.image in seen:
            raise DataError(f"{item.path}: a second image is named {item.image!r}, expected distinct names")
        seen.add(item.image)
        if item.truth.keys() != items[0].truth.keys():
            raise DataError(
                f"{item.path} comes with the columns {list(item.truth)}, the first image with "
                f"{list(items[0].truth)}: expected inputs with the same columns"
            )
    return items


def _images_below(folder: Path) -> list[Path]:
    wanted = (*PATCH_SUFFIXES, *SUFFIXES)
    files = (file for file in folder.rglob("*") if file.suffix.lower() in wanted)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def _read_item_table(path: Path, root: Path) -> list[Item]:
    import pandas as pd  # takes half a second, and most inputs are folders

    try:
        text = {"image": str, "slide": str, "domain": str}
        table = pd.read_csv(path, dtype=text) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    if "image" not in table:
        raise DataError(f"{path} has the columns {', '.join(map(str, table))}; expected 'image' among them")
    kept = [column for column in TRUTH_COLUMNS if column in table]
    # Plain values, whatever the table's types were; None for what is missing.
    truth = table[kept].astype(object).where(table[kept].notna(), None).to_dict("records")
    images = table["image"].astype(str)
    return [
        Item(image, root / image, {str(column): value for column, value in row.items()})
        for image, row in zip(images, truth, strict=True)
    ]


def part_path(output: Path, rank: int, world: int) -> Path:
    """Where a rank keeps what it has scored so far."""
    return output.with_name(f"{output.name}.{rank}-of-{world}.partial")


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
    chunks = _chunks(len(items))[rank::world]
    stop = Event()
    try:
        remaining = chunks[_resume(part, _header(items, bundle_digest)) :]
        total, count = sum(map(len, chunks)), sum(map(len, remaining))
        with (
            part.open("ab") as file,
            _workers() as pool,
            tqdm(total=total, initial=total - count, unit="file", disable=True if rank else None) as bar,
        ):
            try:
                for rows, faults in _score_in_order(items, remaining, predictor, pool, bar, stop):
                    file.write(_line({"rows": rows, "faults": faults}))
                    file.flush()
            finally:
                stop.set()  # where one chunk failed, the others need not be finished
    except OSError as error:
        raise DataError(f"{part} cannot be written: {error.strerror or error}") from error
    return count


def _chunks(count: int) -> list[range]:
    return [range(start, min(start + CHUNK_FILES, count)) for start in range(0, count, CHUNK_FILES)]


def _header(items: Sequence[Item], bundle_digest: str) -> dict[str, str]:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.image}\0{item.path}\0{sorted(item.truth.items())}\n".encode())
    return {"bundle": bundle_digest, "items": digest.hexdigest()}


def _resume(part: Path, header: dict[str, str]) -> int:
    """Prepare the part file for appending; returns how many chunks it holds. A line cut short is cut off."""
    part.parent.mkdir(parents=True, exist_ok=True)
    if not part.exists():
        part.write_bytes(_line(header))
        return 0
    with part.open("rb+") as file:
        first = file.readline()
        if first.endswith(b"\n") and first != _line(header):
            raise DataError(
                f"{part} was begun with other files or another bundle: "
                "delete it to start over, or name another output"
            )
        lines, end = 1, file.tell()
        for line in file:
            if line.endswith(b"\n"):
                lines, end = lines + 1, end + len(line)
        file.truncate(end)
    if not first.endswith(b"\n"):
        part.write_bytes(_line(header))
    return lines - 1


def _line(content: Any) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _keep_freed_memory() -> None:
    """Have glibc's malloc reuse freed blocks of up to 32 MiB, where it would give them back to the system.

    Its measure is the largest block that it has seen freed. Else activations are new memory at every
    operation, which the system clears page by page: a tenth of the compact network's time.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads that score a chunk each, on a share of the cores: they wait less than by sharing every step."""
    _keep_freed_memory()
    cores = torch.get_num_threads()
    count = min(cores, MAX_WORKERS)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(cores // count,)) as pool:
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
            break
        try:
            waiting += [(index, page, patch) for page, patch in enumerate(read_pages(items[index].path))]
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


def merge(items: Sequence[Item], predictor: Predictor, output: Path, world: int = 1) -> Outcome | None:
    """Write the table once every rank is through, and remove the part files.

    Whichever rank finds all parts complete writes the table. Should two find so at once, both write the same
    table, and the one that comes second to the part files leaves the other's alone.

    Returns
    -------
    What the table holds; None while other ranks are still at work, or when another rank has merged.

    Raises
    ------
    DataError : the table cannot be written.
    """
    chunks = _chunks(len(items))
    parts = [part_path(output, rank, world) for rank in range(world)]
    faults: list[tuple[str, str]] = []
    try:
        if not all(_line_count(part) == 1 + len(chunks[rank::world]) for rank, part in enumerate(parts)):
            return None
        rows = _merged_rows(items, parts, len(chunks), predictor, faults)
        columns = ["image", "page", "class", "confidence", "logit", *items[0].truth]
        figures = _write_table(output, columns, rows)
        report = errors_path(output)
        report.unlink(missing_ok=True)
        if faults:
            with report.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([("image", "error"), *faults])
        for part in parts:
            part.unlink(missing_ok=True)
    except FileNotFoundError:
        if output.exists():
            return None
        raise
    except OSError as error:
        raise DataError(f"{output} cannot be written: {error.strerror or error}") from error
    return Outcome(figures, faults)


def errors_path(output: Path) -> Path:
    """Where the files that could not be scored are listed."""
    return output.with_name(f"{output.stem}.errors.csv")


def _line_count(part: Path) -> int:
    if not part.exists():
        return 0
    with part.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)


def _merged_rows(
    items: Sequence[Item], parts: list[Path], chunks: int, predictor: Predictor, faults: list[tuple[str, str]]
) -> Iterator[list[dict[str, Any]]]:
    """The rows of each chunk, in the order of the items; the faults met are appended to `faults`."""
    files = [part.open() for part in parts]
    try:
        for file in files:
            file.readline()  # the header
        for chunk in range(chunks):
            content = json.loads(files[chunk % len(files)].readline())
            faults += [(items[index].image, reason) for index, reason in content["faults"]]
            yield [_row(items[index], page, logit, predictor) for index, page, logit in content["rows"]]
    finally:
        for file in files:
            file.close()


def _row(item: Item, page: int, logit: float, predictor: Predictor) -> dict[str, Any]:
    prediction = predictor.decide(logit)
    return {
        "image": item.image,
        "page": page if is_stack(item.path) else None,
        "class": prediction.label,
        "confidence": prediction.confidence,
        "logit": logit,
        **item.truth,
    }


def _write_table(output: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> int:
    """Write the rows as they come, to a temporary file that is renamed; returns how many there were."""
    writers = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
    partial = output.with_name(f"{output.name}.partial")
    count = 0

    def counted() -> Iterator[list[dict[str, Any]]]:
        nonlocal count
        for rows in chunks:
            count += len(rows)
            yield rows

    writers[output.suffix](partial, columns, counted())
    partial.replace(output)
    return count


def _write_csv(path: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for rows in chunks:
            writer.writerows(rows)


def _write_json(path: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    with path.open("w") as file:
        file.write("[")
        separator = "\n"
        for rows in chunks:
            for row in rows:
                file.write(
                    separator + json.dumps({column: row[column] for column in columns}, allow_nan=False)
                )
                separator = ",\n"
        file.write("\n]\n")


def _write_parquet(path: Path, columns: list[str], chunks: Iterator[list[dict[str, Any]]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"page": pa.int32(), "confidence": pa.float64(), "logit": pa.float64(), "label": pa.int64()}
    schema = pa.schema([(column, types.get(column, pa.string())) for column in columns])
    with pq.ParquetWriter(path, schema) as writer:
        for rows in chunks:
            writer.write_table(pa.Table.from_pylist(rows, schema))
