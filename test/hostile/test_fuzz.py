"""Changed jobs and bundles, by the thousand: a few hundred here, all of them in the soak."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amf.errors import JobError
from amf.inference import job
from amf.inference.sockets import INPUT_SOCKET as SOCKET
from test.support.jobs import write_job
from test.support.paths import ROOT


def fuzz(folder: Path, cases: int, fuzzer: str = "fuzz_job") -> dict[str, Any]:
    """Run in a process of its own: what kills the process is found too."""
    command = [sys.executable, "-m", f"test.hostile.{fuzzer}", "--cases", str(cases), "--folder", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_200_changed_jobs_are_scored_or_refused(tmp_path: Path) -> None:
    result = fuzz(tmp_path / "fuzz", 200)
    assert result["scored"] + result["refused"] == 200
    assert min(result["scored"], result["refused"]) >= 20  # mutations that all end the same way show nothing


@pytest.mark.soak
def test_20000_changed_jobs_are_scored_or_refused(tmp_path: Path) -> None:
    result = fuzz(tmp_path / "fuzz", 20_000)
    print(json.dumps(result))
    assert result["scored"] + result["refused"] == 20_000
    assert min(result["scored"], result["refused"]) >= 2000


def test_200_changed_bundles_score_or_are_refused(tmp_path: Path) -> None:
    result = fuzz(tmp_path / "fuzz", 200, "fuzz_bundle")
    assert result["scored"] + result["refused"] == 200
    assert min(result["scored"], result["refused"]) >= 20


@pytest.mark.soak
def test_5000_changed_bundles_score_or_are_refused(tmp_path: Path) -> None:
    result = fuzz(tmp_path / "fuzz", 5000, "fuzz_bundle")
    print(json.dumps(result))
    assert result["scored"] + result["refused"] == 5000
    assert min(result["scored"], result["refused"]) >= 500


def test_40_mixed_folders_are_scored_or_reported_to_the_last_entry(tmp_path: Path) -> None:
    result = fuzz(tmp_path / "fuzz", 40, "fuzz_folder")
    assert result["given"] == result["scored"] + result["reported"]
    assert min(result["scored"], result["reported"]) >= 40


@pytest.mark.soak
def test_1000_mixed_folders_are_scored_or_reported_to_the_last_entry(tmp_path: Path) -> None:
    result = fuzz(tmp_path / "fuzz", 1000, "fuzz_folder")
    print(json.dumps(result))
    assert result["given"] == result["scored"] + result["reported"]
    assert min(result["scored"], result["reported"]) >= 1000


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([SOCKET, f"images/{SOCKET}", "..", "/", "images"]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
INTERFACES = st.fixed_dictionaries({}, optional={"slug": VALUES, "relative_path": VALUES, "kind": VALUES})
DESCRIBED = INTERFACES | VALUES
SOCKETS = st.fixed_dictionaries({}, optional={"socket": DESCRIBED, "interface": DESCRIBED, "image": VALUES})
DESCRIPTIONS = st.lists(SOCKETS | VALUES, max_size=3) | VALUES


@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(description=DESCRIPTIONS)
def test_a_description_of_any_shape_is_understood_or_refused(tmp_path: Path, description: object) -> None:
    folder = tmp_path / "input"
    if not folder.exists():
        (write_job(folder, "a.tif") / "a.tif").write_bytes(b"x")
    (folder / "inputs.json").write_text(json.dumps(description))
    try:
        found = job.find_stack(folder)
    except JobError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert found == folder / "images" / SOCKET / "a.tif"
