"""What is done already: files in chunks of about one size, and each rank's part file, one line a chunk.

Each rank scores every world-th chunk and appends its line once it is whole, so that a killed run goes on
after the last of them. The batches of a chunk never depend on where a run began or on how many share the
work: the table is the same to the last bit.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amf.bulk.items import Item
from amf.errors import DataError
from amf.model.digest import file_digest

CHUNK_PAGES = 64
STACK_PAGES = 16
"""What a stack counts as, unopened: as many as the platform's largest holds."""


def part_path(output: Path, rank: int, world: int) -> Path:
    """Where a rank keeps what it has scored so far."""
    return output.with_name(f"{output.name}.{rank}-of-{world}.partial")


def chunks_of(items: Sequence[Item]) -> list[range]:
    """Cut the numbers of the items into chunks of CHUNK_PAGES pages, as far as their names tell."""
    chunks, start, pages = [], 0, 0
    for index, item in enumerate(items):
        pages += STACK_PAGES if item.is_stack else 1
        if pages >= CHUNK_PAGES or index == len(items) - 1:
            chunks.append(range(start, index + 1))
            start, pages = index + 1, 0
    return chunks


def header_of(
    items: Sequence[Item], chunks: Sequence[range], bundle_digest: str, by_content: bool = False
) -> dict[str, str]:
    """What a part file begins with: of which items, cut how, in which state, and of which bundle it is.

    A file's state is its size and the time of its last change; with `by_content`, its SHA-256 too.
    """
    named, state = hashlib.sha256(), hashlib.sha256(str(by_content).encode())
    states: dict[Path, str] = {}  # several items may lie in one file
    for item in items:
        named.update(_bytes(f"{item.image}\0{item.path}\0{sorted(item.truth.items())}\n"))
        if item.path not in states:
            states[item.path] = _state(item.path, by_content)
        state.update(_bytes(f"{states[item.path]}\n"))
    named.update(str(chunks).encode())
    return {"bundle": bundle_digest, "items": named.hexdigest(), "files": state.hexdigest()}


def _state(path: Path, by_content: bool) -> str:
    try:
        status = path.stat()
        content = file_digest(path) if by_content and path.is_file() else ""
        return f"{status.st_size} {status.st_mtime_ns} {content}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _bytes(text: str) -> bytes:
    """UTF-8, and the very bytes of a file name that is not."""
    return text.encode("utf-8", "surrogateescape")


DIFFERENCES = {
    "bundle": "with another bundle",
    "items": "with other inputs, or by another version",
    "files": "before one of the files changed",
}
"""What another value of a header's key means."""


def resume(part: Path, header: dict[str, str]) -> int:
    """Prepare a part file for appending; returns how many chunks it holds. A line cut short is cut off.

    Raises
    ------
    DataError : the part file was begun with another header.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    if not part.exists():
        part.write_bytes(line_of(header))
        return 0
    with part.open("rb+") as file:
        first = file.readline()
        if first.endswith(b"\n") and first != line_of(header):
            raise DataError(
                f"{part} was begun {_difference(first, header)}: delete it to start over, "
                "or name another output"
            )
        lines, end = 1, file.tell()
        for line in file:
            if line.endswith(b"\n"):
                lines, end = lines + 1, end + len(line)
        file.truncate(end)
    if not first.endswith(b"\n"):
        part.write_bytes(line_of(header))
    return lines - 1


def _difference(first: bytes, header: dict[str, str]) -> str:
    try:
        begun = json.loads(first)
        return next(DIFFERENCES[key] for key in header if begun.get(key) != header[key])
    except (ValueError, AttributeError, StopIteration):
        return DIFFERENCES["items"]


def line_of(content: Any) -> bytes:
    """One line of a part file."""
    return json.dumps(content).encode() + b"\n"


def line_count(part: Path) -> int:
    """How many whole lines a part file holds; 0 where there is none."""
    if not part.exists():
        return 0
    with part.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
