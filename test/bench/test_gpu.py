"""bench/gpu.sh on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from test.support.paths import ROOT


def run(out: Path, *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    """Exit code and results of `bench/gpu.sh --tiny`."""
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(out)}
    command = ["sh", str(ROOT / "bench" / "gpu.sh"), "--tiny", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, json.loads((out / "gpu.json").read_text())


def test_stages_that_run_out_of_time_are_listed(tmp_path: Path) -> None:
    code, results = run(tmp_path, "--budget", "0")

    assert code == 1
    assert list(results) == ["device", "scoring", "jobs", "training"]
    assert all(figures == {"left out": "out of time"} for figures in results.values())
    assert "| training | left out | out of time |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.soak
def test_every_stage_runs(tmp_path: Path) -> None:
    code, results = run(tmp_path)

    assert code == 0
    assert not any("left out" in figures for figures in results.values())
    assert results["jobs"]["warm case, ms"] > 0  # type: ignore[operator]
