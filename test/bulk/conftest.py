"""What the tests of bulk scoring share: a folder of drawn files, the command, small chunks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from amf.bulk import parts
from amf.cli import main as amf
from test.support.jobs import save_tiff


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """21 patches and one stack of 3 pages below `images`, distinct noise each."""
    generator = np.random.default_rng(0)
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for number in range(21):
        path = images / ("sub" if number % 2 else "") / f"{number:02}.png"
        pixels = generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=1)
    save_tiff(images / "stack.tiff", generator.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8))
    return images


@pytest.fixture
def predict(make_bundle: Callable[..., Path]) -> Callable[..., pd.DataFrame | None]:
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
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "CHUNK_PAGES", 4)
