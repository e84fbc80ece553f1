"""What is written is whole or absent: killed at any moment, on a full disk, in a folder that is none."""

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf import files
from amf.cli import main as amf
from amf.data.packed import pack
from amf.errors import BundleError, DataError, JobError
from amf.inference import job
from amf.inference.job import OUTPUT_NAME, Prediction
from amf.model import bundle
from test.support.bundles import other_members, resave, rewrite, scored
from test.support.drawn import draw_patches, drawn_table
from test.support.fixtures import Capture, Make, Pages
from test.support.paths import ROOT
from test.support.processes import file_size_limit, killed_at_line

PREDICTIONS = [Prediction("normal", 0.125), Prediction("atypical", 0.75)]
JOB = ROOT / "test" / "input" / "tiff"


def visible(folder: Path) -> list[str]:
    """What the platform would collect; a killed process cannot take its hidden temporary file with it."""
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")]


def start(output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, ROOT / "inference.py", "--input", JOB, "--output", output, "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


# ---- the answer of a job


def test_killed_at_every_line_of_the_write_the_answer_is_whole_or_absent(output: Path) -> None:
    whole = job.write_predictions(output, PREDICTIONS).read_bytes()
    sources = (job.__file__, files.__file__, tempfile.__file__)
    seen = []
    for line in range(1, 1000):
        shutil.rmtree(output)
        output.mkdir()
        if not killed_at_line(line, sources, lambda: job.write_predictions(output, PREDICTIONS)):
            break
        seen.append(visible(output))
        assert seen[-1] in ([], [OUTPUT_NAME])
        assert not seen[-1] or (output / OUTPUT_NAME).read_bytes() == whole
    assert seen.count([]) > 20
    assert seen.count([OUTPUT_NAME]) >= 1


@pytest.mark.soak
def test_killed_at_random_moments_the_answer_is_whole_or_absent(output: Path) -> None:
    started = time.monotonic()
    assert start(output).wait() == 0
    duration = time.monotonic() - started
    whole = (output / OUTPUT_NAME).read_bytes()
    generator, present, kills = np.random.default_rng(50), 0, 50
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
    with file_size_limit(60), pytest.raises(JobError, match="cannot be written: File too large"):
        job.write_predictions(output, PREDICTIONS)
    assert not list(output.iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A full file system of 64 kB; mounting one takes root's rights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
    (folder / "filler").write_bytes(bytes(64 * 1024))
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_sentence_and_nothing_stays(small_disk: Path) -> None:
    process = start(small_disk)
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert stderr.decode() == f"{small_disk / OUTPUT_NAME} cannot be written: No space left on device\n"
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

    def blow_up(tensors: dict[str, object]) -> None:
        tensors["logit.weight"][0, ::2], tensors["logit.weight"][0, 1::2] = 3e38, -3e38
        tensors["hidden.0.bias"][:] = 1e5

    folder = make_bundle()
    resave(folder, blow_up)
    with pytest.raises(BundleError, match=r"gave page 1 the logit (nan|inf|-inf), expected a finite number"):
        job.run(make_job(pages), output, folder, "cpu")
    assert not list(output.iterdir())


def test_every_confidence_that_is_written_is_a_finite_real_number(output: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        job.write_predictions(output, [Prediction("normal", float("nan"))])
    assert not list(output.iterdir())
    job.write_predictions(output, [Prediction("normal", 0.0), Prediction("atypical", 1.0)])
    assert (output / OUTPUT_NAME).read_text().count(": 0.0") == 1
    given = [entry["confidence"] for entry in json.loads((output / OUTPUT_NAME).read_text())]
    assert [(type(value), value) for value in given] == [(float, 0.0), (float, 1.0)]


# ---- a bundle


@pytest.mark.parametrize("step", [10, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_at_every_line_of_a_write_the_bundle_is_the_old_or_the_new(
    make_bundle: Make, tmp_path: Path, step: int
) -> None:
    original, folder = make_bundle(members=2), tmp_path / "rewritten"
    members = other_members(original, 1)  # not in the child, which has none of torch's threads
    seen = []
    for line in range(1, 1000, step):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        sources = (bundle.__file__, files.__file__)
        if not killed_at_line(line, sources, lambda: rewrite(folder, members, "new")):
            break
        seen.append(bundle.load(folder).spec.name)
    assert set(seen) == {"bundle", "new"}
    assert seen == sorted(seen)  # once new, never old again
    assert seen.count("bundle") > 50 / step


def test_a_disk_that_fills_up_leaves_the_earlier_bundle(make_bundle: Make) -> None:
    folder = make_bundle(members=2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with file_size_limit(4000), pytest.raises(BundleError, match="cannot be written"):
        rewrite(folder, other_members(folder, 1), "new")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(scored(folder)) == 2


# ---- what the commands write


def test_packing_beyond_a_limit_leaves_nothing(tmp_path: Path) -> None:
    table = drawn_table(4)
    draw_patches(table, tmp_path / "root")
    with (
        file_size_limit(100_000),
        pytest.raises(DataError, match=r"p\.npy cannot be written: File too large"),
    ):
        pack(table, tmp_path / "root", tmp_path / "p.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_an_evaluation_without_space_leaves_no_half_report(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "p.csv").write_text("image,class,confidence,label\na,normal,0.1,0\nb,atypical,0.9,1\n")
    command = ["evaluate", str(tmp_path / "p.csv"), "--replicates", "20", "--output", str(tmp_path / "out")]
    with file_size_limit(4096):  # enough for the numbers, not for the report
        assert amf(command) == 2
    assert "report.html cannot be written: File too large" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").iterdir())
    assert amf(command) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "report.html"]


def test_predict_names_the_file_that_cannot_be_written(
    tmp_path: Path, make_bundle: Make, capsys: Capture
) -> None:
    draw_patches(drawn_table(2), tmp_path / "images")
    (tmp_path / "images" / "bad.png").write_bytes(b"no picture")
    output = tmp_path / "p.csv"
    command = ["predict", str(tmp_path / "images"), "--model", str(make_bundle()), "--output", str(output)]
    (tmp_path / "p.errors.csv").mkdir()  # the table could be written, its list of errors cannot
    assert amf(command) == 2
    assert "p.errors.csv cannot be written: " in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()
    (tmp_path / "p.errors.csv").rmdir()
    assert amf(command) == 2
    assert (len(pd.read_csv(output)), len(pd.read_csv(tmp_path / "p.errors.csv"))) == (2, 1)
