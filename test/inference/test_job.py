"""One job as the platform runs it: from flags to JSON and exit code, good and bad."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import inference
from amf.errors import BundleError, JobError
from amf.inference import job
from amf.inference.job import OUTPUT_NAME
from test.support.bundles import weights_of
from test.support.fixtures import Capture, Make, Pages, Patch
from test.support.jobs import run_inference, write_job
from test.support.paths import ROOT


def test_a_job_writes_one_entry_a_page_in_page_order(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    (output / OUTPUT_NAME).write_text("the answer to an earlier job")
    predictions = job.run(make_job(pages), output, make_bundle(), "cpu")
    written = json.loads((output / OUTPUT_NAME).read_text())
    assert [path.name for path in output.iterdir()] == [OUTPUT_NAME]
    assert written == [{"class": p.label, "confidence": p.confidence} for p in predictions]
    assert len({entry["confidence"] for entry in written}) == len(pages)
    for entry in written:
        assert list(entry) == ["class", "confidence"]
        assert type(entry["confidence"]) is float


def test_real_stack_through_the_entry_point(shared_data: Path, output: Path) -> None:
    source = shared_data / "grand-challenge" / "input"
    done = run_inference("--input", source, "--output", output, "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    written = json.loads((output / OUTPUT_NAME).read_text())
    assert len(written) == 16
    assert all(type(entry["confidence"]) is float and 0 < entry["confidence"] < 1 for entry in written)


def refused(code: int, monkeypatch: Patch, capfd: Capture, *flags: object) -> str:
    """The one sentence on stderr of a job that ends with an exit code."""
    monkeypatch.setattr(sys, "argv", ["inference.py", *map(str, flags)])
    assert inference.main() == code
    out, err = capfd.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    return line


def test_a_bad_job_ends_with_2_and_a_bad_bundle_with_3(
    make_job: Make,
    make_bundle: Make,
    output: Path,
    pages: Pages,
    tmp_path: Path,
    monkeypatch: Patch,
    capfd: Capture,
) -> None:
    write_job(tmp_path / "empty", "a.tif")
    model = make_bundle()
    flags = ["--output", output, "--model", model, "--input"]
    said = refused(2, monkeypatch, capfd, *flags, tmp_path / "empty")
    assert "holds nothing, expected exactly one stack" in said
    weights = weights_of(model)
    weights.write_bytes(weights.read_bytes()[:-8])
    assert weights.name in refused(3, monkeypatch, capfd, *flags, make_job(pages))
    assert not list(output.iterdir())
    with pytest.raises(BundleError, match=r"bundle\.json cannot be read"):
        job.run(tmp_path / "input", output, tmp_path / "nowhere", "cpu")


@pytest.mark.parametrize("where", ["missing", "a file"])
def test_an_output_that_is_no_folder_is_refused(
    make_job: Make, make_bundle: Make, tmp_path: Path, pages: Pages, where: str
) -> None:
    target = tmp_path / where
    if where == "a file":
        target.touch()
    with pytest.raises(JobError, match="not a folder that can be written to"):
        job.run(make_job(pages), target, make_bundle(), "cpu")


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


def test_what_libraries_say_goes_to_stdout_and_stderr_holds_our_sentence_alone(
    make_job: Make, make_bundle: Make, output: Path, pages: Pages
) -> None:
    model = make_bundle()
    weights_of(model).write_bytes(b"nothing")
    flags = ["--input", make_job(pages), "--output", output, "--model", model, "--device", "cpu"]
    command = [sys.executable, "-c", WARNING, ROOT, "inference.py", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert "UserWarning: a driver is too old" in done.stdout
    assert "a remark of a C library" in done.stdout
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
