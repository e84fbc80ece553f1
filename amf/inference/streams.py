"""The process's standard streams: what libraries write goes where it belongs, and a reader may leave.

`silence` and `stderr_on_stdout` move file descriptor 2 of the whole process, as libraries in C write to it
themselves. Not for several threads at once: they would leave it moved behind them.
"""

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def outlive_readers() -> None:
    """Let print() go on when nobody reads any more, as after `| head`, or the console lacks a character.

    What cannot be delivered is dropped, so that the work goes on and its results are written; an unknown
    character is written as its number. Streams that something else has replaced are left as they are.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            pipe = _Pipe(stream.fileno(), "w", closefd=False)
            text = io.TextIOWrapper(
                pipe if stream.write_through else io.BufferedWriter(pipe),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, text)


class _Pipe(io.FileIO):
    """A file descriptor that takes everything, even when its reader has closed the pipe."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


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
