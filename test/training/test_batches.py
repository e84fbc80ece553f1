"""Weights against counts made by hand; orders as pure functions that a resumed or split run repeats."""

from collections import Counter

import numpy as np
import pytest
import torch

from amf.training.batches import dealt, draw, hard_mask, sampling_weights


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


def test_weights_against_a_naive_count():
    rng = np.random.default_rng(2)
    labels, domains = rng.choice([0, 1 / 3, 2 / 3, 1], 200), rng.integers(0, 10, 200)
    hard = rng.uniform(size=200) < 0.3
    classes = [bool(y >= 0.5) for y in labels]
    class_sizes, domain_sizes = Counter(classes), Counter(domains.tolist())
    raw = [
        1 / class_sizes[c] / domain_sizes[d] * (2 if h else 1)
        for c, d, h in zip(classes, domains.tolist(), hard, strict=True)
    ]
    np.testing.assert_allclose(sampling_weights(labels, domains, hard), np.array(raw) / sum(raw), rtol=1e-12)


def test_figures_are_drawn_in_proportion_to_their_weights():
    weights = np.array([1.0, 2.0, 5.0, 0.0])
    counts = np.bincount(draw(weights, seed=3, epoch=0, draws=80_000), minlength=4)
    # 4 standard deviations of a binomial count
    expected = 80_000 * weights / 8
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected * (1 - weights / 8))).all()
    assert counts[3] == 0


def test_an_order_depends_on_seed_epoch_and_weights_alone():
    weights = np.random.default_rng(0).uniform(size=50)
    order = draw(weights, seed=1, epoch=4, draws=50)
    np.testing.assert_array_equal(order, draw(weights.copy(), seed=1, epoch=4, draws=50))
    for other in (
        draw(weights, seed=2, epoch=4, draws=50),
        draw(weights, seed=2, epoch=3, draws=50),
        draw(weights, seed=1, epoch=5, draws=50),
        draw(weights**2, seed=1, epoch=4, draws=50),
    ):
        assert not np.array_equal(order, other)


def test_sampling_leaves_the_global_generators_alone():
    np_before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    draw(np.ones(10), seed=0, epoch=0, draws=10)
    assert np.array_equal(np_before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_before, torch.get_rng_state())


@pytest.mark.parametrize(("draws", "processes"), [(12, 4), (13, 4), (3, 4), (1, 4)])
def test_processes_share_one_global_order_evenly(draws, processes):
    order = draw(np.ones(100), seed=0, epoch=0, draws=draws)
    shares = [dealt(order, process, processes) for process in range(processes)]
    assert len({len(share) for share in shares}) == 1
    interleaved = np.stack(shares, axis=1).ravel()
    np.testing.assert_array_equal(interleaved[:draws], order)
    np.testing.assert_array_equal(interleaved[draws:], np.resize(order, len(interleaved))[draws:])
