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


def header_of(items: Sequence[Item], chunks: Sequence[range], bundle_digest: str) -> dict[str, str]:
    """What a part file begins with: of which items, cut how, and of which bundle it is."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.image}\0{item.path}\0{sorted(item.truth.items())}\n".encode())
    digest.update(str(chunks).encode())
    return {"bundle": bundle_digest, "items": digest.hexdigest()}


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
                f"{part} was begun with other files, another bundle or another version: "
                "delete it to start over, or name another output"
            )
        lines, end = 1, file.tell()
        for line in file:
            if line.endswith(b"\n"):
                lines, end = lines + 1, end + len(line)
        file.truncate(end)
    if not first.endswith(b"\n"):
        part.write_bytes(line_of(header))
    return lines - 1


def line_of(content: Any) -> bytes:
    """One line of a part file."""
    return json.dumps(content).encode() + b"\n"


def line_count(part: Path) -> int:
    """How many whole lines a part file holds; 0 where there is none."""
    if not part.exists():
        return 0
    with part.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
