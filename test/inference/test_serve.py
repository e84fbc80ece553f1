"""The invoke server as the platform uses it: one process of `inference.py --serve`, case after case."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from amf.inference.serve import AddressError, Server
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_NAME
from test.support.bundles import weights_of
from test.support.fixtures import Make, Pages
from test.support.jobs import run_inference, save_tiff, write_job
from test.support.paths import ROOT

JOBS = ROOT / "test" / "input"

PATCHED = """
import runpy, sys, time
from amf.inference import job
original = job.read_stack

def read_stack(path):
    if path.stem == "bug":
        return original(path) / 0 / None
    if path.stem == "slow":
        print("begin", flush=True)
        time.sleep(1)
        print("end", flush=True)
    return original(path)

job.read_stack = read_stack
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""The entry point with a reader that has a bug for one name and is slow for another."""


class Served:
    """A running server whose /input is a symbolic link, as the platform's may be."""

    def __init__(self, folder: Path, *flags: object, patched: bool = False) -> None:
        self.input, self.output = folder / "link-to-input", folder / "output"
        self.output.mkdir(exist_ok=True)
        self._stderr, self._read = folder / "stderr", 0
        self._log = folder / "stdout"
        command = [sys.executable, *(["-c", PATCHED] if patched else []), ROOT / "inference.py", "--serve"]
        command += ["--host", "127.0.0.1", "--port", 0, "--input", self.input, "--output", self.output]
        with self._log.open("wb") as stdout, self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*map(str, command), *map(str, flags)], stdout=stdout, stderr=stderr, cwd=ROOT
            )
        line = self.wait_for("listening on 127.0.0.1:")
        self.port = int(line.rpartition(":")[2])

    def wait_for(self, text: str, times: int = 1) -> str:
        """The line of the log that starts so, or the last of so many."""
        for _ in range(600):
            found = [line for line in self.log.splitlines() if line.startswith(text)]
            if len(found) >= times:
                return found[times - 1]
            assert self.process.poll() is None, self.stderr
            time.sleep(0.05)
        raise AssertionError(f"no {text!r} in 30 s: {self.log}")

    @property
    def stderr(self) -> str:
        """What came since it was last asked for."""
        with self._stderr.open() as file:
            file.seek(self._read)
            said = file.read()
            self._read = file.tell()
        return said

    @property
    def log(self) -> str:
        return self._log.read_text()

    def provide(self, job: Path) -> None:
        """Put another job and an empty output folder where the last ones were."""
        self.input.unlink(missing_ok=True)
        self.input.symlink_to(job)
        shutil.rmtree(self.output)
        self.output.mkdir()

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, method=method, data=body)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def invoke(self) -> tuple[int, str]:
        return self.ask("POST", "/invoke")

    def answer(self) -> bytes:
        assert [path.name for path in self.output.iterdir()] == [OUTPUT_NAME]
        return (self.output / OUTPUT_NAME).read_bytes()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def served(folder: Path, *flags: object, patched: bool = False, ready: bool = True) -> Iterator[Served]:
    server = Served(folder, "--device", "cpu", *flags, patched=patched)
    try:
        if ready:
            server.wait_for("ready")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def new_job(folder: Path, pages: Pages, name: str = "a.tif") -> Path:
    save_tiff(write_job(folder, name) / name, pages)
    return folder


def exec_answer(job: Path, folder: Path, *flags: object) -> bytes:
    folder.mkdir(exist_ok=True)
    done = run_inference("--input", job, "--output", folder, "--device", "cpu", *flags)
    assert (done.returncode, done.stderr) == (0, "")
    return (folder / OUTPUT_NAME).read_bytes()


def test_every_job_through_one_process_is_answered_as_by_exec(tmp_path: Path) -> None:
    """A job in each form of the platform, the first one again, and jobs that are none between them."""
    broken = write_job(tmp_path / "broken", "a.tif").parent.parent
    jobs = sorted(JOBS.iterdir())
    jobs.append(jobs[0])
    expected = exec_answer(JOBS / "tiff", tmp_path / "exec")
    sentence = f"{tmp_path}/link-to-input/images/{INPUT_SOCKET} holds nothing, expected exactly one stack"
    with served(tmp_path) as server:
        for job in jobs:
            server.provide(job)
            assert server.invoke() == (201, "done\n")
            assert server.answer() == expected
            assert server.stderr == ""

            (server.output / OUTPUT_NAME).write_text("the answer to an earlier case")
            server.input.unlink()
            server.input.symlink_to(broken)
            status, body = server.invoke()
            assert status == 422
            assert body.startswith(sentence)
            assert server.stderr == body
            assert list(server.output.iterdir()) == []
        assert server.ask("GET", "/health") == (200, "ready\n")
        assert server.terminate() == 0
    assert server.stderr == ""
    assert server.log.count(": 16 figures; bundle compact and lite on cpu") == len(jobs)


def test_nothing_is_served_before_the_bundle_is_loaded(tmp_path: Path, make_bundle: Make) -> None:
    with served(tmp_path, "--model", make_bundle(), ready=False) as server:
        assert server.ask("GET", "/health") == (503, "the bundle is being loaded\n")
        assert server.ask("POST", "/invoke") == (503, "the bundle is being loaded\n")
        server.wait_for("ready")
        assert server.ask("GET", "/health") == (200, "ready\n")
        for method, path in [("GET", "/"), ("GET", "/health/"), ("GET", "/invoke"), ("POST", "/health")]:
            assert server.ask(method, path)[0] == 404


def in_threads(count: int, work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_a_bug_a_case_that_waits_and_sigterm_in_the_middle_of_one(
    tmp_path: Path, make_bundle: Make, pages: Pages
) -> None:
    answers: list[tuple[int, str]] = []
    with served(tmp_path, "--model", make_bundle(), patched=True) as server:
        # A bug is 500 and a traceback, and the next case is scored.
        server.provide(new_job(tmp_path / "bug", pages, "bug.tif"))
        status, body = server.invoke()
        assert status == 500
        assert body.startswith("TypeError: unsupported operand type(s)")
        said = server.stderr
        assert said.startswith("Traceback (most recent call last):")
        assert said.endswith(body)
        assert list(server.output.iterdir()) == []
        server.provide(new_job(tmp_path / "good", pages))
        assert server.ask("POST", "/invoke", b"a body that nobody reads") == (201, "done\n")
        assert server.answer().count(b"class") == len(pages)

        # A second case waits for the first, and health for neither.
        server.provide(new_job(tmp_path / "slow", pages, "slow.tif"))
        calls = in_threads(2, lambda: answers.append(server.invoke()))
        server.wait_for("begin")
        assert server.ask("GET", "/health") == (200, "ready\n")
        for call in calls:
            call.join()
        assert answers == [(201, "done\n")] * 2
        steps = [line for line in server.log.splitlines() if line in ("begin", "end")]
        assert steps == ["begin", "end"] * 2

        # SIGTERM in the middle of a case ends it answered.
        (call,) = in_threads(1, lambda: answers.append(server.invoke()))
        server.wait_for("begin", times=3)
        assert server.terminate() == 0
        call.join()
        assert answers[2:] == [(201, "done\n")]
        assert server.answer().count(b"class") == len(pages)
        assert server.stderr == ""


def test_sigterm_while_the_bundle_is_loaded_ends_it_at_once(tmp_path: Path, make_bundle: Make) -> None:
    with served(tmp_path, "--model", make_bundle(), ready=False) as server:
        assert server.terminate() == 0
        assert server.stderr == ""
        assert "ready" not in server.log


def test_a_bundle_that_is_not_usable_ends_the_process_with_3(make_bundle: Make) -> None:
    model = make_bundle()
    weights_of(model).write_bytes(b"nothing")
    done = run_inference("--serve", "--port", 0, "--model", model, "--device", "cpu")
    assert done.returncode == 3
    assert weights_of(model).name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_that_cannot_be_listened_on_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for port in (70_000, taken.getsockname()[1]):
            with pytest.raises(AddressError, match=f"127.0.0.1:{port} cannot be listened on: ") as caught:
                Server("127.0.0.1", port)
            assert caught.value.exit_code == 2


def resident_mb(process: "subprocess.Popen[bytes]") -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return float(status[status.index("VmRSS:") :].split()[1]) / 1024


@pytest.mark.soak
def test_memory_is_flat_over_many_cases(tmp_path: Path, make_bundle: Make) -> None:
    """The drawn jobs in turn, a broken one after every ten."""
    (write_job(tmp_path / "broken", "a.mha") / "a.mha").write_bytes(b"this is no MetaImage\n")
    jobs, memory = sorted(JOBS.iterdir()), []
    with served(tmp_path, "--model", make_bundle()) as server:
        for number in range(200):
            if number % 10 == 9:
                server.provide(tmp_path / "broken")
                assert server.invoke()[0] == 422
            server.provide(jobs[number % len(jobs)])
            assert server.invoke() == (201, "done\n")
            memory.append(resident_mb(server.process))
    second_ten, last_ten = np.mean(memory[10:20]), np.mean(memory[-10:])
    print(f"resident MB: second ten {second_ten:.1f}, last ten {last_ten:.1f}")
    assert last_ten < second_ten + 20
