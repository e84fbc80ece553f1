"""What a share has scored so far: a header, then one line for each chunk of files.

A killed run goes on with the chunks that have no line yet. The batches of a chunk never depend on where a run
began or on how many processes share the work, so the joined table is the same to the last bit. A line that a
kill cut short counts as none. Two processes with one share score it twice and do no harm: each line is
appended at once, and of two lines for a chunk, which are the same, the first counts.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Part:
    """What a part file holds.

    Attributes
    ----------
    header : what it is of; empty where no line of the file is one.
    chunks : number of the chunk -> its line, with the rows scored and the faults met.
    whole : the file ends with a whole line.
    """

    header: dict[str, Any] = field(default_factory=dict)
    chunks: dict[int, dict[str, Any]] = field(default_factory=dict)
    whole: bool = True


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
    named, state = hashlib.sha256(), hashlib.sha256(str(by_content).encode())
    states: dict[Path, bytes] = {}  # several items may lie in one file
    for item in items:
        named.update(ascii((item.image, item.number, str(item.path), *sorted(item.truth.items()))).encode())
        if item.path not in states:
            states[item.path] = _state(item.path, by_content)
        state.update(states[item.path])
    named.update(str(chunks).encode())
    return {
        "share": [share.number, share.count],
        "bundle": bundle,
        "inputs": named.hexdigest(),
        "files": state.hexdigest(),
        "given": len(items),
        "chunks": len(chunks),
        "unit": items[0].unit if items else Item.unit,
        "columns": [*COLUMNS, *(items[0].truth if items else ())],
    }


def _state(path: Path, by_content: bool) -> bytes:
    try:
        status = path.stat()
        content = file_digest(path) if by_content and path.is_file() else ""
        return f"{status.st_size} {status.st_mtime_ns} {content}\n".encode()
    except OSError as error:
        return f"cannot be read: {error.strerror}\n".encode()


def difference(header: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """What a part is of that another is not, in words; None where both are of the same."""
    return next((DIFFERENCES[key] for key in DIFFERENCES if header.get(key) != other.get(key)), None)


def read_part(path: Path) -> Part:
    """Read a part file, but for lines that a kill cut short; one that is not there holds nothing.

    Raises
    ------
    DataError : it cannot be read.
    """
    part = Part()
    try:
        with path.open("rb") as file:
            for line in file:
                part.whole = line.endswith(b"\n")
                try:
                    content = json.loads(line)
                except ValueError:
                    continue
                if isinstance(content, dict) and {"chunk", "rows", "faults"} <= content.keys():
                    part.chunks.setdefault(content["chunk"], content)
                elif isinstance(content, dict) and "share" in content:
                    part.header = part.header or content
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return part


@contextmanager
def continued(path: Path, header: Mapping[str, Any]) -> Iterator[tuple[BinaryIO, set[int]]]:
    """Open a part file to append to, begun where it is missing; gives it and the chunks that it holds.

    Raises
    ------
    DataError : it was begun with another header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = read_part(path)
    if part.header and (found := difference(header, part.header)):
        raise DataError(f"{path} was begun with {found}: delete it to start over, or name another output")
    with path.open("ab", buffering=LINE_BYTES) as file:
        if not part.whole:
            file.write(b"\n")
        if not part.header:
            append(file, header)
        yield file, set(part.chunks)


def append(file: BinaryIO, content: Mapping[str, Any]) -> None:
    """Add one line to an open part file."""
    file.write(json.dumps(content).encode() + b"\n")
    file.flush()
