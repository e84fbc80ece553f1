"""The whole valid JSON or none: killed at any moment, on a full disk, in a folder that cannot be written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from amf import files
from amf.errors import BundleError, JobError
from amf.inference import job
from amf.inference.job import OUTPUT_NAME, Prediction
from amf.model.digest import file_digest
from test.support.bundles import change, weights_of
from test.support.paths import ROOT
from test.support.processes import in_a_child

Make = Callable[..., Path]
Pages = NDArray[np.uint8]

SOURCES = (job.__file__, files.__file__, tempfile.__file__)
PREDICTIONS = [Prediction("normal", 0.125), Prediction("atypical", 0.75)]
JOB = ROOT / "test" / "input" / "tiff"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def visible(folder: Path) -> list[str]:
    """What the platform would collect; a killed process cannot take its hidden temporary file with it."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def write_and_die_at(line: int, output: Path) -> None:
    """Write the answer, but end at the given line of those passed in job.py, files.py and tempfile.py."""
    passed = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal passed
        passed += event == "line" and frame.f_code.co_filename in SOURCES
        if passed == line:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    job.write_predictions(output, PREDICTIONS)
    sys.settrace(None)


def test_killed_at_every_line_of_the_write_the_answer_is_whole_or_absent(output: Path) -> None:
    whole = job.write_predictions(output, PREDICTIONS).read_bytes()
    seen = []
    for line in range(1, 1000):
        shutil.rmtree(output)
        output.mkdir()
        if in_a_child(partial(write_and_die_at, line, output)) == 0:
            break
        seen.append(visible(output))
        assert seen[-1] in ([], [OUTPUT_NAME])
        assert not seen[-1] or (output / OUTPUT_NAME).read_bytes() == whole
    assert seen.count([]) > 20
    assert seen.count([OUTPUT_NAME]) >= 1


def start(output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, ROOT / "inference.py", "--input", JOB, "--output", output, "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_killed_at_random_moments_the_answer_is_whole_or_absent(output: Path, kills: int) -> None:
    started = time.monotonic()
    assert start(output).wait() == 0
    duration = time.monotonic() - started
    whole = (output / OUTPUT_NAME).read_bytes()
    generator, present = np.random.default_rng(kills), 0
    for number in range(kills):
        shutil.rmtree(output)
        output.mkdir()
        process = start(output)
        time.sleep(duration * generator.uniform(0, 1.1))
        process.send_signal((signal.SIGTERM, signal.SIGKILL)[number % 2])
        process.wait()
        assert visible(output) in ([], [OUTPUT_NAME])
        if visible(output):
            present += 1
            assert (output / OUTPUT_NAME).read_bytes() == whole
    print(f"{present} whole answers, {kills - present} none")
    assert present < kills


def test_a_file_that_may_not_grow_is_one_sentence_and_nothing_stays(output: Path) -> None:
    """A limit on the size of files stands in for a disk that fills up in the middle of the write."""

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))
        with pytest.raises(JobError, match="cannot be written: File too large"):
            job.write_predictions(output, PREDICTIONS)

    assert in_a_child(write) == 0
    assert not list(output.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; mounting one takes root's rights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_sentence_and_nothing_stays(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(64 * 1024))
    process = start(small_disk)
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert stderr.decode().splitlines() == [
        f"{small_disk / OUTPUT_NAME} cannot be written: No space left on device"
    ]
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_an_earlier_answer_that_cannot_be_removed_is_one_sentence(
    output: Path, make_job: Make, pages: Pages
) -> None:
    (output / OUTPUT_NAME).mkdir()
    with pytest.raises(JobError, match="cannot be replaced"):
        job.run(make_job(pages), output, ROOT / "model", "cpu")


def test_a_logit_that_is_not_a_number_leaves_no_answer(
    output: Path, make_job: Make, make_bundle: Make, pages: Pages
) -> None:
    """Finite weights whose sum is finite, too, but not what the network makes of them."""
    folder = make_bundle()
    weights = weights_of(folder)
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    tensors["logit.weight"][0, ::2], tensors["logit.weight"][0, 1::2] = 3e38, -3e38
    tensors["hidden.0.bias"][:] = 1e5
    save_file(tensors, weights)
    digest = file_digest(weights)
    change(folder, lambda content: content["members"][0].update(sha256=digest))
    with pytest.raises(BundleError, match=r"gave page 1 the logit (nan|inf|-inf), expected a finite number"):
        job.run(make_job(pages), output, folder, "cpu")
    assert not list(output.iterdir())


def test_every_confidence_that_is_written_is_finite(output: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        job.write_predictions(output, [Prediction("normal", float("nan"))])
    assert not list(output.iterdir())
    job.write_predictions(output, PREDICTIONS)
    assert [entry["confidence"] for entry in json.loads((output / OUTPUT_NAME).read_text())] == [0.125, 0.75]
