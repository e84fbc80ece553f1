"""Keep what libraries write off stderr, whose last line the platform shows as the reason of a failure.

Both functions move file descriptor 2 of the whole process, as libraries in C write to it themselves. Not for
several threads at once: they would leave it moved behind them.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def silence() -> Iterator[None]:
    """Drop what is written to stderr, Python's warnings included.

    For reading images: an odd tag that does not matter to the pixels is no reason for a remark to the user.
    """
    with Path(os.devnull).open("wb") as nowhere, _stderr_to(nowhere.fileno()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def stderr_on_stdout() -> Iterator[None]:
    """Send what is written to stderr to stdout, where the log of a job is."""
    with _stderr_to(1):
        yield


@contextmanager
def _stderr_to(target: int) -> Iterator[None]:
    stderr = os.dup(2)
    try:
        os.dup2(target, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
