"""workflow/slides.smk: a table of slides, each in shares, joined into the outputs that the table names."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from test.support.paths import ROOT
from test.support.slides import lay, write_pyramid


def test_a_table_of_slides_becomes_joined_outputs(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    """Without a resolution of its own, the slide takes the table's; a figure outside of it is refused."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    canvas, centres = lay(list(noise))
    write_pyramid(tmp_path / "s.tif", canvas, None)
    pd.DataFrame([*centres, (-9, 5)], columns=["x", "y"]).to_csv(tmp_path / "f.csv", index=False)
    row = {"slide": "s.tif", "figures": "f.csv", "output": "o.csv", "mpp": 0.25}
    pd.DataFrame([row]).to_csv(tmp_path / "table.csv", index=False)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "slides.smk")]
    command += ["--config", "table=table.csv", "shares=2", f"model={make_bundle()}", "--cores", "2"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "o.csv")[["x", "y"]].values.tolist() == [list(centre) for centre in centres]
    assert len(pd.read_csv(tmp_path / "o.errors.csv")) == 1
