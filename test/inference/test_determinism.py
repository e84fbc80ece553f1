"""The shipped bundle gives the same answer again: to the byte, in any order, in any batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from amf.inference import job
from amf.inference.job import OUTPUT_NAME
from amf.inference.predict import Predictor
from amf.inference.stack import read_stack
from amf.model import bundle
from test.support.jobs import save_tiff, write_job
from test.support.paths import ROOT

Pages = NDArray[np.uint8]
INPUT = ROOT / "test" / "input" / "tiff"


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    """The shipped weights in float32: half types may round another way in another batch size's kernel."""
    monkeypatch.setattr("amf.inference.predict.compute_dtype", lambda *_: torch.float32)
    return Predictor(bundle.load(ROOT / "model"), "cpu")


@pytest.fixture(scope="module")
def drawn() -> Pages:
    return read_stack(job.find_stack(INPUT))  # (16, 128, 128, 3)


def confidences(predictor: Predictor, pages: Pages) -> NDArray[np.float64]:
    return np.array([prediction.confidence for prediction in predictor.predict(pages)])


def test_the_answer_is_byte_identical_in_every_process(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        command = [sys.executable, ROOT / "inference.py", "--input", INPUT, "--output", tmp_path]
        subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True)
        answers.append((tmp_path / OUTPUT_NAME).read_bytes())
    assert answers[0] == answers[1]


def test_permuted_pages_give_the_permuted_answer(tmp_path: Path, drawn: Pages) -> None:
    order = np.random.default_rng(0).permutation(len(drawn))
    save_tiff(write_job(tmp_path / "input", "a.tif") / "a.tif", drawn[order])
    given = job.run(INPUT, tmp_path, ROOT / "model", "cpu")
    permuted = job.run(tmp_path / "input", tmp_path, ROOT / "model", "cpu")
    assert [p.label for p in permuted] == [given[page].label for page in order]
    np.testing.assert_allclose(
        [p.confidence for p in permuted], [given[page].confidence for page in order], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", [1, 5, 16])
def test_the_batch_split_does_not_matter(predictor: Predictor, drawn: Pages, size: int) -> None:
    parts = [confidences(predictor, drawn[at : at + size]) for at in range(0, len(drawn), size)]
    np.testing.assert_allclose(np.concatenate(parts), confidences(predictor, drawn), rtol=0, atol=1e-6)


def test_a_stack_longer_than_a_batch_is_scored_as_its_parts(predictor: Predictor, drawn: Pages) -> None:
    pages = np.concatenate([drawn] * 5)  # (80, 128, 128, 3)
    expected = np.tile(confidences(predictor, drawn), 5)
    np.testing.assert_allclose(confidences(predictor, pages), expected, rtol=0, atol=1e-6)
