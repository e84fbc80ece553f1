"""bench/gpu.sh on the CPU, from a copy of the tracked files, as a machine without a network gets it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test.support.paths import ROOT


def run(checkout: Path, out: Path, *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    """Exit code and results of `bench/gpu.sh --tiny`."""
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(out)}
    command = ["sh", str(checkout / "bench" / "gpu.sh"), "--tiny", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, json.loads((out / "gpu.json").read_text())


def test_stages_that_run_out_of_time_are_listed(tmp_path: Path) -> None:
    code, results = run(ROOT, tmp_path, "--budget", "0")

    assert code == 1
    assert list(results) == ["device", "scoring", "jobs", "training"]
    assert all(figures == {"left out": "out of time"} for figures in results.values())
    assert "| training | left out | out of time |" in (tmp_path / "gpu.md").read_text()


@pytest.mark.soak
def test_every_stage_runs_and_one_that_lacks_a_package_is_left_out(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, tracked.split("\0")):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "copy" / name)
    package = "pytorch_metric_learning"
    (tmp_path / "copy" / f"{package}.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{package}'\")\n"
    )

    code, results = run(tmp_path / "copy", tmp_path / "out")

    assert code == 0
    assert results["training"] == {"left out": f"ModuleNotFoundError: No module named '{package}'"}
    for stage, label in (("device", "bf16 matrix rate, TFLOP/s"), ("jobs", "warm case, ms")):
        assert results[stage][label] > 0  # type: ignore[operator]
    assert results["scoring"]["ViT-g: ms for 16 pages"] > 0  # type: ignore[operator]
