"""What a share has scored so far: a header, then a line for each chunk of files.

A killed run goes on with the chunks that have no line yet. What is computed for a chunk never depends on
where a run began or on how many processes share the work: the joined table is the same to the last bit. A
line that a kill cut short counts as none. Two processes with one share score it twice and do no harm: each
line is appended at once, and of two lines for a chunk, which are the same, the first counts.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from amf.bulk.items import Item
from amf.bulk.shares import Share
from amf.errors import DataError
from amf.model.digest import file_digest

CHUNK_PAGES = 64
STACK_PAGES = 16
"""What a stack counts as, unopened: as many as the platform's largest holds."""

LINE_BYTES = 1 << 20
"""Lines are buffered up to this size, and so reach the file by one write."""

COLUMNS = ("image", "page", "class", "confidence", "logit", "threshold")
"""Of a table, before those that the inputs came with."""

DIFFERENCES = {
    "bundle": "another bundle",
    "inputs": "other inputs, or by another version",
    "files": "files that have changed since",
}
"""What another value of a header's key means."""


def chunks_of(items: Sequence[Item]) -> list[range]:
    """Cut the positions of the items into chunks of CHUNK_PAGES pages, as far as their names tell."""
    chunks, start, pages = [], 0, 0
    for index, item in enumerate(items):
        pages += STACK_PAGES if item.is_stack else 1
        if pages >= CHUNK_PAGES or index == len(items) - 1:
            chunks.append(range(start, index + 1))
            start, pages = index + 1, 0
    return chunks


def header_of(
    items: Sequence[Item], chunks: Sequence[range], share: Share, bundle: str, by_content: bool = False
) -> dict[str, Any]:
    """What a part begins with: of which items, cut how, in which state, and of which bundle it is.

    A file's state is its size and the time of its last change; with `by_content`, its SHA-256 too.
    """
    named = [(item.image, item.number, str(item.path), sorted(item.truth.items())) for item in items]
    states = [_state(path, by_content) for path in dict.fromkeys(item.path for item in items)]
    return {
        "share": [share.number, share.count],
        "bundle": bundle,
        "inputs": hashlib.sha256(ascii((named, chunks)).encode()).hexdigest(),
        "files": hashlib.sha256(ascii((states, by_content)).encode()).hexdigest(),
        "given": len(items),
        "chunks": len(chunks),
        "unit": items[0].unit if items else Item.unit,
        "columns": [*COLUMNS, *(items[0].truth if items else ())],
    }


def _state(path: Path, by_content: bool) -> tuple[int | str | None, ...]:
    try:
        status = path.stat()
        content = file_digest(path) if by_content and path.is_file() else None
        return status.st_size, status.st_mtime_ns, content
    except OSError as error:
        return (error.errno,)


def difference(header: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """What a part is of that another is not, in words; None where both are of the same."""
    return next((DIFFERENCES[key] for key in DIFFERENCES if header.get(key) != other.get(key)), None)


def read_part(path: Path) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """Read a part file: its header, and by the chunk's number each line; both empty where there is none.

    Raises DataError where the system refuses to read it.
    """
    header: dict[str, Any] = {}
    chunks: dict[int, dict[str, Any]] = {}
    try:
        for line in path.read_bytes().splitlines():
            try:
                content = json.loads(line)
            except ValueError:  # cut short by a kill
                continue
            if isinstance(content, dict) and {"chunk", "rows", "faults"} <= content.keys():
                chunks.setdefault(content["chunk"], content)
            elif isinstance(content, dict) and "share" in content:
                header = header or content
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return header, chunks


@contextmanager
def continued(path: Path, header: Mapping[str, Any]) -> Iterator[tuple[BinaryIO, set[int]]]:
    """Open a part file to append to, begun where it is missing; gives it and the chunks that it holds.

    Raises
    ------
    DataError : it was begun with another header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun, chunks = read_part(path)
    if begun and (found := difference(header, begun)):
        raise DataError(f"{path} was begun with {found}: delete it to start over, or name another output")
    with path.open("ab", buffering=LINE_BYTES) as file:
        if file.tell():
            file.write(b"\n")  # ends a line that was cut short
        if not begun:
            append(file, header)
        yield file, set(chunks)


def append(file: BinaryIO, content: Mapping[str, Any]) -> None:
    """Add one line to an open part file."""
    file.write(json.dumps(content).encode() + b"\n")
    file.flush()
