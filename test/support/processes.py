"""Work in a process that is killed, or that may not write as much as it wants to."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from test.support.paths import ROOT

KILLS_ITSELF = """
import os, signal, sys
from amf.bulk import parts
from amf.cli import main
lines = int(sys.argv.pop(1))
written, append = [], parts.append
def killing(*given):
    written.append(given)
    if len(written) == lines + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return append(*given)
parts.append = killing
main()
"""


def amf_that_kills_itself(lines: int, arguments: Sequence[str]) -> None:
    """`amf`, killed once its part has so many lines; a signal from outside might come too late."""
    command = [sys.executable, "-c", KILLS_ITSELF, str(lines), *arguments]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == -signal.SIGKILL


def in_a_child(work: Callable[[], object]) -> int:
    """Run in a fork; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at_line(line: int, sources: Sequence[str], work: Callable[[], object]) -> bool:
    """Run in a fork, killed at the given line of those it passes in some files; False if it ended before."""

    def die() -> None:
        passed = 0

        def count(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal passed
            passed += event == "line" and frame.f_code.co_filename in sources
            if passed == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        sys.settrace(count)
        work()
        sys.settrace(None)

    code = in_a_child(die)
    assert code in (0, -signal.SIGKILL)
    return code != 0


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: stands in for a disk that fills up in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
