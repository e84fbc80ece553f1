"""Weights against counts made by hand; orders as pure functions that a resumed or split run repeats."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from amf.training import batches
from amf.training.batches import Batches, dealt, draw, hard_mask, sampling_weights


def test_hard_are_the_top_thirty_percent_by_distance_to_the_soft_label():
    labels = np.array([1.0, 0.0, 1 / 3, 1.0, 0.0, 1.0, 2 / 3, 0.0, 0.0, 0.0])
    probabilities = np.array([0.9, 0.2, 1 / 3, 0.1, 0.95, 0.8, 0.7, 0.3, 0.5, 0.1])
    assert np.flatnonzero(hard_mask(probabilities, labels)).tolist() == [3, 4, 8]


def test_ties_go_to_the_figures_that_come_first():
    # three difficulties over many figures: an unstable sort would shuffle within each
    probabilities = np.random.default_rng(0).choice([0.25, 0.5, 0.75], 1000)
    hardest_first = sorted(range(1000), key=lambda i: (-probabilities[i], i))
    assert np.flatnonzero(hard_mask(probabilities, np.zeros(1000))).tolist() == sorted(hardest_first[:300])


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.30, 4129), (1.0, 13764)])
def test_the_number_of_hard_figures_is_the_rounded_share(share, count):
    probabilities = np.random.default_rng(0).uniform(size=13764)
    assert hard_mask(probabilities, np.zeros(13764), share).sum() == count


def test_weights_by_hand():
    labels = np.array([1.0, 0.5, 0.0, 0.0, 1 / 3, 0.0])  # 2 AMF, 4 NMF
    domains = np.array([0, 1, 1, 1, 1, 0])  # 2 and 4
    hard = np.array([False, False, True, False, False, False])
    raw = np.array([1 / 4, 1 / 8, 2 / 16, 1 / 16, 1 / 16, 1 / 8])
    np.testing.assert_allclose(sampling_weights(labels, domains, hard), raw / raw.sum(), rtol=1e-12)


def test_figures_are_drawn_in_proportion_to_their_weights():
    weights = np.array([1.0, 2.0, 5.0, 0.0])
    counts = np.bincount(draw(weights, seed=3, epoch=0, draws=80_000), minlength=4)
    # 4 standard deviations of a binomial count
    expected = 80_000 * weights / 8
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected * (1 - weights / 8))).all()
    assert counts[3] == 0


def test_an_order_depends_on_seed_epoch_and_weights_alone():
    weights = np.random.default_rng(0).uniform(size=50)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    order = draw(weights, seed=1, epoch=4, draws=50)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.testing.assert_array_equal(order, draw(weights.copy(), seed=1, epoch=4, draws=50))
    for other in (
        draw(weights, seed=2, epoch=3, draws=50),
        draw(weights, seed=1, epoch=5, draws=50),
        draw(weights**2, seed=1, epoch=4, draws=50),
    ):
        assert not np.array_equal(order, other)


@pytest.mark.parametrize(("draws", "processes"), [(12, 4), (13, 4), (3, 4), (1, 4)])
def test_processes_share_one_global_order_evenly(draws, processes):
    order = draw(np.ones(100), seed=0, epoch=0, draws=draws)
    shares = [dealt(order, process, processes) for process in range(processes)]
    assert len({len(share) for share in shares}) == 1
    interleaved = np.stack(shares, axis=1).ravel()
    np.testing.assert_array_equal(interleaved[:draws], order)
    np.testing.assert_array_equal(interleaved[draws:], np.resize(order, len(interleaved))[draws:])


def test_the_next_batch_is_made_while_one_is_used_and_none_further(monkeypatch):
    begun = {number: threading.Event() for number in (1, 2, 3)}
    monkeypatch.setattr(batches, "make_batch", lambda task, rows, place, device: begun[place[1]].set())
    task = SimpleNamespace(patches_at_once=lambda processes: 4)
    used = iter(Batches(task, 0, np.arange(12), 0, 1, torch.device("cpu")))
    next(used)
    assert begun[2].wait(timeout=60)
    assert not begun[3].is_set()
    next(used)
    assert begun[3].wait(timeout=60)
