"""Which share of the work is this process's, and what the other ranks are doing.

Ranks know each other by their part files alone: one that is at work holds the lock of its own.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from amf.errors import DataError

GRACE_SECONDS = 120.0
"""How long no other rank may be at work: one that starts late imports and loads for that long at most."""

POLL_SECONDS = 0.5
LOCK_TRIES = 10


def rank_and_world(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """This process's rank and how many there are, as a launcher says in RANK and WORLD_SIZE; else (0, 1).

    Raises
    ------
    DataError : one of the two is missing, or they are not 0 <= RANK < WORLD_SIZE.
    """
    rank, world = environment.get("RANK"), environment.get("WORLD_SIZE")
    if rank is None and world in (None, "1"):
        return 0, 1
    try:
        valid = 0 <= int(rank or "") < int(world or "")
    except ValueError:
        valid = False
    if not valid:
        raise DataError(
            f"the environment has RANK {rank or 'unset'} and WORLD_SIZE {world or 'unset'}, expected both "
            "from a launcher, 0 <= RANK < WORLD_SIZE: unset them to score everything in one process"
        )
    return int(rank or 0), int(world or 1)


@contextmanager
def held(part: Path) -> Iterator[None]:
    """Hold the lock of a part file, which is made where it is missing; it is free again when a process dies.

    Raises
    ------
    DataError : another process holds it; OSError : the part file cannot be made.
    """
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        for attempt in range(1, LOCK_TRIES + 1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # also for the moment in which `is_held` looks
                if attempt == LOCK_TRIES:
                    raise DataError(
                        f"{part} is being written by another process, expected one run for each output"
                    ) from None
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        yield


def is_held(part: Path) -> bool:
    """Whether a process holds the lock of a part file."""
    try:
        with part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def wait(done: Callable[[], bool], others: Sequence[Path], what: str) -> None:
    """Wait until `done`, for as long as one of the other ranks is at work on its part file.

    Raises
    ------
    DataError : none has been at work for GRACE_SECONDS; `what` says what is missing.
    """
    seen: list[int] = []
    quiet_since = time.monotonic()
    while not done():
        sizes = [part.stat().st_size if part.exists() else 0 for part in others]
        if sizes != seen or any(map(is_held, others)):
            seen, quiet_since = sizes, time.monotonic()
        elif time.monotonic() - quiet_since > GRACE_SECONDS:
            raise DataError(
                f"{what}, and no other rank is at work: start the ranks that are missing, or unset RANK and "
                "WORLD_SIZE to score everything in one process"
            )
        time.sleep(POLL_SECONDS)
