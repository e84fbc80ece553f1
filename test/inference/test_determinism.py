"""The shipped bundle gives the same answer again: to the byte, in any order, in any batch."""

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
from test.support.fixtures import Pages
from test.support.jobs import run_inference
from test.support.paths import ROOT

INPUT = ROOT / "test" / "input" / "tiff"


@pytest.fixture(scope="module")
def drawn() -> Pages:
    return read_stack(job.find_stack(INPUT))  # (16, 128, 128, 3)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    """The shipped weights in float32: half types may round another way in another batch size's kernel."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("amf.inference.predict.compute_dtype", lambda *_: torch.float32)
        return Predictor(bundle.load(ROOT / "model"), "cpu")


@pytest.fixture(scope="module")
def expected(predictor: Predictor, drawn: Pages) -> NDArray[np.float64]:
    return predictor.logits(drawn)


def test_the_answer_is_byte_identical_in_every_process(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        done = run_inference("--input", INPUT, "--output", tmp_path, "--device", "cpu")
        assert (done.returncode, done.stderr) == (0, "")
        answers.append((tmp_path / OUTPUT_NAME).read_bytes())
    assert answers[0] == answers[1]


def test_permuted_pages_give_the_permuted_answer(
    predictor: Predictor, drawn: Pages, expected: NDArray[np.float64]
) -> None:
    order = np.random.default_rng(0).permutation(len(drawn))
    np.testing.assert_allclose(predictor.logits(drawn[order]), expected[order], rtol=0, atol=4e-6)


@pytest.mark.parametrize("size", [1, 5])
def test_the_batch_split_does_not_matter(
    predictor: Predictor, drawn: Pages, expected: NDArray[np.float64], size: int
) -> None:
    parts = [predictor.logits(drawn[at : at + size]) for at in range(0, len(drawn), size)]
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=0, atol=4e-6)


def test_a_stack_longer_than_a_batch_is_scored_as_its_parts(
    predictor: Predictor, drawn: Pages, expected: NDArray[np.float64]
) -> None:
    pages = np.concatenate([drawn] * 5)[:70]  # (70, 128, 128, 3)
    np.testing.assert_allclose(predictor.logits(pages), np.tile(expected, 5)[:70], rtol=0, atol=4e-6)
