"""What the tests of bulk scoring share: a folder of drawn files, the command, small chunks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf.bulk import parts
from amf.cli import main as amf
from test.support.drawn import draw_patch
from test.support.fixtures import Make, Patch
from test.support.jobs import save_tiff


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """21 patches and one stack of 3 pages below `images`, distinct noise each."""
    images = tmp_path / "images"
    for number in range(21):
        draw_patch(images / ("sub" if number % 2 else "") / f"{number:02}.png", seed=number)
    pages = np.random.default_rng(21).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    save_tiff(images / "stack.tiff", pages)
    return images


@pytest.fixture
def predict(make_bundle: Make) -> Callable[..., pd.DataFrame | None]:
    """`amf predict`; gives the CSV that it wrote, if it wrote one."""
    ours: list[Path] = []

    def run(
        output: Path, *inputs: Path | str, model: Path | None = None, code: int = 0
    ) -> pd.DataFrame | None:
        if model is None and not ours:
            ours.append(make_bundle())
        given = [*map(str, inputs), "--model", str(model or ours[0]), "--output", str(output)]
        assert amf(["predict", *given]) == code
        return pd.read_csv(output) if output.suffix == ".csv" and output.exists() else None

    return run


@pytest.fixture
def small_chunks(monkeypatch: Patch) -> None:
    monkeypatch.setattr(parts, "CHUNK_PAGES", 4)
