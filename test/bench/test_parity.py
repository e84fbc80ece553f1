"""A job computes in half precision, in one batch; the answers are those of full precision, page by page."""

import subprocess
import sys
from pathlib import Path

import pytest

from test.support.paths import ROOT

PARITY = [sys.executable, "-m", "bench.parity", ROOT / "model"]


def moved(*arguments: object) -> str:
    done = subprocess.run([*PARITY, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_drawn_pages_keep_their_confidence() -> None:
    assert "\n16 pages: " in moved(ROOT / "test" / "input" / "tiff")


@pytest.mark.soak
def test_real_patches_keep_their_confidence(patches: Path) -> None:
    said = moved(patches / "AMi-Br", patches / "AtNorM-MD", "--limit", "240")
    assert "240 pages: confidence moved by at most 0.0" in said
