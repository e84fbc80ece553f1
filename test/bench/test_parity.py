"""A job computes in half precision, in one batch; the answers are those of full precision, page by page."""

import subprocess
import sys
from pathlib import Path

from test.support.paths import ROOT

PARITY = [sys.executable, "-m", "bench.parity", ROOT / "model"]


def test_real_patches_keep_their_confidence(patches: Path) -> None:
    command = [*PARITY, patches / "AMi-Br", patches / "AtNorM-MD", "--limit", "240"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("240 pages: confidence moved by at most 0.0")


def test_drawn_pages_keep_their_confidence() -> None:
    done = subprocess.run(
        [*PARITY, ROOT / "test" / "input" / "tiff"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("16 pages: ")
