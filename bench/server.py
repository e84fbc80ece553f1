"""The invoke server against `import torch`, against scoring alone and against as many exec jobs.

Called by bench.job, which prints these lines below those of the exec job.
"""

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = 10
SCORER = """
import sys, time
from pathlib import Path
from amf.inference import job, stack
predictor = job.load_predictor(Path(sys.argv[2]), "auto")
patches = stack.read_stack(job.find_stack(Path(sys.argv[1])))
predictor.predict(patches)
print("ready", flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    predictor.predict(patches)
    print(time.perf_counter() - started, flush=True)
"""
"""Scores the same stack once for every line it is sent: what a case costs that is already read."""


class Server:
    """A running `inference.py --serve` on a free port of this machine."""

    def __init__(self, job: Path, output: Path, model: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        flags = ["--host", "127.0.0.1", "--port", self._url.rpartition(":")[2]]
        flags += ["--input", str(job), "--output", str(output), "--model", str(model)]
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "inference.py"), "--serve", *flags], stdout=subprocess.DEVNULL
        )
        while not self._healthy():
            time.sleep(0.005)
        self.ready_seconds = time.perf_counter() - started

    def _healthy(self) -> bool:
        if self._process.poll() is not None:
            raise SystemExit(f"the server ended with code {self._process.returncode}")
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=10) as response:
                return bool(response.status == 200)
        except OSError:  # refused, or 503
            return False

    def case(self) -> float:
        """Seconds from the request to 201."""
        started = time.perf_counter()
        request = urllib.request.Request(f"{self._url}/invoke", method="POST")
        with urllib.request.urlopen(request, timeout=600) as response:
            if response.status != 201:
                raise SystemExit(f"a case got {response.status}, expected 201")
        return time.perf_counter() - started

    def stop(self) -> None:
        """End it and wait for its end."""
        self._process.terminate()
        self._process.wait()


def print_server(job: Path, output: Path, model: Path, rounds: int, exec_job: Callable[[], float]) -> None:
    """Print the ready time beside `import torch`, warm cases beside scoring alone, ten cases beside ten jobs.

    exec_job : runs one exec job with the same bundle; its seconds. Each case has a job as its neighbour.
    """
    ready, imports = [], []
    for _ in range(rounds):
        server = Server(job, output, model)
        server.stop()
        ready.append(server.ready_seconds)
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        imports.append(time.perf_counter() - started)
    import_torch = statistics.median(imports)
    print(f"server ready {statistics.median(ready):.2f} s, / import torch {_ratio(ready, imports):.2f}")

    server = Server(job, output, model)
    scorer = subprocess.Popen(
        [sys.executable, "-c", SCORER, str(job), str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    stdin, stdout = scorer.stdin, scorer.stdout
    assert stdin is not None
    assert stdout is not None
    stdout.readline()
    server.case()  # warms up its reader

    def score_alone() -> float:
        print(file=stdin, flush=True)
        return float(stdout.readline())

    cases, scored, jobs = [], [], []
    for round_ in range(CASES):
        turns = [(cases, server.case), (scored, score_alone)]
        # what follows a job finds cold caches
        for times, measured in turns if round_ % 2 else reversed(turns):
            times.append(measured())
        jobs.append(exec_job())
    server.stop()
    stdin.close()
    scorer.wait()
    case = statistics.median(cases)
    print(
        f"warm case {case * 1000:.0f} ms ({min(cases) * 1000:.0f} to {max(cases) * 1000:.0f}), "
        f"/ import torch {case / import_torch:.3f}, / scoring alone {_ratio(cases, scored):.3f}"
    )
    print(
        f"{CASES} exec jobs / {CASES} cases {sum(jobs) / sum(cases):.1f}, "
        f"with the server's start {sum(jobs) / (sum(cases) + server.ready_seconds):.1f}"
    )


def _ratio(ours: list[float], others: list[float]) -> float:
    """Median of the ratios of neighbours in time, which a busy machine slows alike."""
    return statistics.median(a / b for a, b in zip(ours, others, strict=True))
