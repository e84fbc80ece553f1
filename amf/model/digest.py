"""SHA-256 of the weight files, begun before torch is even imported: hashing leaves the interpreter free."""

import contextlib
import hashlib
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

FILE_NAME = "bundle.json"
MAX_DESCRIPTION_BYTES = 4 << 20
"""A longer bundle.json is none: ours, with all of its provenance, holds some thousand bytes."""

MAX_WEIGHTS_BYTES = 64 << 30
"""More than any member has: hashing is not begun for what loading will refuse by its size."""

BLOCK_BYTES = 32 << 20
"""Read at once: between two blocks the thread waits for the interpreter, up to 5 ms while others import."""

_pool = ThreadPoolExecutor(2, thread_name_prefix="digest")
_begun: dict[Path, Future[str]] = {}


def begin(folder: Path) -> None:
    """Start hashing the weights that bundle.json names, which also brings them into the page cache.

    Says nothing of a bundle that is none, nor of its signature: loading does, and it names the fault.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, RecursionError):
        for member in json.loads(read_description(folder))["members"]:
            path = folder / Path(member["weights"]).name
            if path in _begun or not path.is_file():  # opening a pipe would wait for its writer
                continue
            if path.stat().st_size <= MAX_WEIGHTS_BYTES:
                _begun[path] = _pool.submit(_sha256, path)


def read_description(folder: Path) -> bytes:
    """The bytes of bundle.json, which has a bound. Raises OSError."""
    path = folder / FILE_NAME
    if path.exists() and not path.is_file():  # opening a pipe would wait for its writer
        raise OSError("it is not a regular file")
    if not 0 < (size := path.stat().st_size) <= MAX_DESCRIPTION_BYTES:
        raise OSError(f"it holds {size} bytes, expected 1 to {MAX_DESCRIPTION_BYTES}")
    return path.read_bytes()


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
