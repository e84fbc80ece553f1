"""Work in a process that ends, by itself or by a signal."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from test.support.paths import ROOT

ENDS_ITSELF = """
import os, signal, sys
from amf.bulk import parts
from amf.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background is born ignoring it
number, lines = int(sys.argv.pop(1)), int(sys.argv.pop(1))
written, append = [], parts.append
def ending(*given):
    written.append(given)
    if len(written) == lines + 1:
        os.kill(os.getpid(), number)
    return append(*given)
parts.append = ending
sys.exit(main())
"""


def amf_that_ends_itself(
    number: int, lines: int, arguments: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """`amf`, which gets a signal once its part has so many lines; one from outside might come too late."""
    command = [sys.executable, "-c", ENDS_ITSELF, str(number), str(lines), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


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
