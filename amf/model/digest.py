"""SHA-256 of the weight files, begun before torch is imported: hashing leaves the interpreter free."""

import contextlib
import hashlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

FILE_NAME = "bundle.json"
BLOCK_BYTES = 32 << 20
"""Read at once: between two blocks the thread waits for the interpreter, up to 5 ms while others import."""

_pool = ThreadPoolExecutor(2, thread_name_prefix="digest")
_begun: dict[Path, Future[str]] = {}


def begin(folder: Path) -> None:
    """Start hashing the weights that bundle.json names, which also brings them into the page cache.

    Ignores an invalid bundle; `bundle.load` reports it.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        for member in json.loads((folder / FILE_NAME).read_bytes())["members"]:
            path = folder / member["weights"]
            if path not in _begun:
                _begun[path] = _pool.submit(_sha256, path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file as it was when hashing began, or as it is now. Raises OSError."""
    begun = _begun.pop(path, None)
    return begun.result() if begun is not None else _sha256(path)


def _sha256(path: Path) -> str:
    state = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        block = memoryview(bytearray(min(path.stat().st_size, BLOCK_BYTES)))
        while count := file.readinto(block):
            state.update(block[:count])
    return state.hexdigest()
