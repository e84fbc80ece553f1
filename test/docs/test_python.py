"""The public API: docs/python.md as a user runs it, what `predict` takes, and what importing costs."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import amf
from test.support.jobs import save_tiff
from test.support.paths import ROOT

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_run(tmp_path: Path, pages: NDArray[np.uint8]) -> None:
    (tmp_path / "patches").mkdir()
    for number, page in enumerate(pages):
        Image.fromarray(page).save(tmp_path / "patches" / f"{number}.png")
    script = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == [f"{number}.png" for number in range(5)]
    assert "answers.csv is not an image that can be read" in lines[-1]
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 6
    with Image.open(tmp_path / "most-atypical.png") as picture:
        assert picture.size == (5 * 128, 128)


def test_every_public_name_is_there_and_on_the_page() -> None:
    for name in amf.__all__:
        assert getattr(amf, name) is not None
        assert f"`amf.{name}" in PAGE
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = amf.lode  # type: ignore[attr-defined]


def test_every_form_of_a_patch_gets_the_same_answer(
    tmp_path: Path, make_bundle: Callable[..., Path], pages: NDArray[np.uint8]
) -> None:
    model = amf.load(make_bundle(temperature=2.0, bias=0.5, threshold=0.6), device="cpu")
    save_tiff(tmp_path / "stack.tif", pages)
    for number, page in enumerate(pages):
        Image.fromarray(page).save(tmp_path / f"{number}.png")
    files = [tmp_path / f"{number}.png" for number in range(len(pages))]
    expected = model.predict(pages)

    for given in (
        files,
        [str(file) for file in files],
        (Image.fromarray(page) for page in pages),
        tmp_path / "stack.tif",
        [pages[0], files[1], Image.fromarray(pages[2]), pages[3:]],
    ):
        answers = model.predict(given)
        np.testing.assert_allclose(answers.logits, expected.logits, atol=1e-5)
        assert answers.labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(
        expected.confidences, 1 / (1 + np.exp(-(expected.logits / 2 + 0.5))), atol=1e-12
    )
    assert (expected.labels == "atypical").tolist() == (expected.confidences >= 0.6).tolist()
    assert len(model.predict([])) == 0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((2, 128, 128, 3)), TypeError, "patch 1 is an array of float64, expected a uint8 array"),
        (np.zeros((2, 64, 64, 3), np.uint8), ValueError, r"patch 1 has the shape \(2, 64, 64, 3\)"),
        ([np.zeros((128, 128, 3), np.uint8), 7], TypeError, "patch 2 is int, expected"),
        ("nowhere.png", amf.AmfError, "nowhere.png: no such file"),
        (Image.new("RGB", (64, 128)), amf.AmfError, "patch 1 is 64 x 128 px, expected 128 x 128"),
        (Image.new("L", (128, 128)), amf.AmfError, "patch 1 holds mode L"),
    ],
)
def test_what_is_no_patch_is_refused(
    make_bundle: Callable[..., Path], given: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        amf.load(make_bundle(), device="cpu").predict(given)  # type: ignore[arg-type]
