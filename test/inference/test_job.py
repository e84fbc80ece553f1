"""One job as the platform runs it: `python inference.py` from exec to JSON, good and bad."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from amf.errors import BundleError, JobError
from amf.inference import job
from amf.inference.job import OUTPUT_NAME, Prediction
from test.support.bundles import weights_of
from test.support.jobs import run_inference, write_job
from test.support.paths import ROOT

Make = Callable[..., Path]
Pages = NDArray[np.uint8]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


def test_a_job_writes_one_entry_a_page_in_page_order(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    folder = make_job(pages)
    predictions = job.run(folder, output, make_bundle(), "cpu")
    written = json.loads((output / OUTPUT_NAME).read_text())
    assert [p.name for p in output.iterdir()] == [OUTPUT_NAME]
    assert written == [{"class": p.label, "confidence": p.confidence} for p in predictions]
    assert len({entry["confidence"] for entry in written}) == len(pages)
    for entry in written:
        assert list(entry) == ["class", "confidence"]
        assert type(entry["confidence"]) is float


def test_confidence_is_written_as_a_real_number_even_at_the_ends(output: Path) -> None:
    job.write_predictions(output, [Prediction("normal", 0.0), Prediction("atypical", 1.0)])
    assert [type(e["confidence"]) for e in json.loads((output / OUTPUT_NAME).read_text())] == [float, float]


def test_a_second_run_replaces_the_answer(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    (output / OUTPUT_NAME).write_text("old")
    job.run(make_job(pages), output, make_bundle(), "cpu")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(pages)


def test_the_answer_is_byte_identical_when_repeated(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    folder, model = make_job(pages), make_bundle()
    job.run(folder, output, model, "cpu")
    first = (output / OUTPUT_NAME).read_bytes()
    job.run(folder, output, model, "cpu")
    assert (output / OUTPUT_NAME).read_bytes() == first


def test_real_stack_through_the_entry_point(shared_data: Path, output: Path) -> None:
    source = shared_data / "grand-challenge" / "input"
    done = run_inference("--input", source, "--output", output, "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((output / OUTPUT_NAME).read_text())
    assert len(written) == 16
    assert all(type(e["confidence"]) is float and 0 < e["confidence"] < 1 for e in written)


def test_a_bad_job_exits_2_with_its_sentence_last_on_stderr(
    make_bundle: Make, output: Path, tmp_path: Path
) -> None:
    write_job(tmp_path / "input", "a.tif")
    done = run_inference("--input", tmp_path / "input", "--output", output, "--model", make_bundle())
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "holds nothing, expected exactly one stack" in done.stderr
    assert not list(output.iterdir())


@pytest.mark.parametrize("where", ["missing", "a file"])
def test_an_output_that_is_no_folder_is_refused(
    make_job: Make, make_bundle: Make, tmp_path: Path, pages: Pages, where: str
) -> None:
    target = tmp_path / where
    if where == "a file":
        target.touch()
    with pytest.raises(JobError, match="not a folder that can be written to"):
        job.run(make_job(pages), target, make_bundle(), "cpu")


def test_a_failure_while_writing_leaves_nothing_behind(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(JobError, match="cannot be written: No space left on device"):
        job.write_predictions(output, [Prediction("normal", 0.5)])
    assert not list(output.iterdir())


def test_a_bad_bundle_exits_3_and_leaves_no_output(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages, tmp_path: Path
) -> None:
    folder, model = make_job(pages), make_bundle()
    weights = weights_of(model)
    weights.write_bytes(weights.read_bytes()[:-8])
    done = run_inference("--input", folder, "--output", output, "--model", model)
    assert done.returncode == 3
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert weights.name in done.stderr
    assert not list(output.iterdir())
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read"):
        job.run(folder, output, tmp_path / "nowhere", "cpu")


def test_cuda_where_there_is_none_is_a_wrong_flag_and_no_bug(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    flags = ["--input", make_job(pages), "--output", output, "--model", make_bundle(), "--device", "cuda"]
    done = run_inference(*flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "device cuda was asked for, but no CUDA device is available\n"


def test_a_full_stdout_is_no_failed_job(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    """What is printed there is only a log, and the answer is on disk."""
    flags = ["--input", make_job(pages), "--output", output, "--model", make_bundle(), "--device", "cpu"]
    command = [sys.executable, ROOT / "inference.py", *map(str, flags)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(pages)


WARNING = """
import os, sys, warnings
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[2:]
import inference
from amf.model import bundle
original = bundle.load

def load(folder):
    warnings.warn("a driver is too old")
    os.write(2, b"a remark of a C library\\n")
    return original(folder)

bundle.load = load
raise SystemExit(inference.main())
"""


@pytest.mark.parametrize("bad", [False, True])
def test_what_libraries_say_goes_to_stdout_and_stderr_holds_our_sentence_alone(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages, bad: bool
) -> None:
    model = make_bundle()
    if bad:
        weights_of(model).write_bytes(b"nothing")
    flags = ["--input", make_job(pages), "--output", output, "--model", model, "--device", "cpu"]
    command = [sys.executable, "-c", WARNING, ROOT, "inference.py", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "UserWarning: a driver is too old" in done.stdout
    assert "a remark of a C library" in done.stdout
    assert done.returncode == (3 if bad else 0)
    assert len(done.stderr.splitlines()) == int(bad)
