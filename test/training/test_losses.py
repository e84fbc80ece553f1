"""Each loss against a naive float64 loop over the formula, not over the library it is built on."""

import math

import numpy as np
import pytest
import torch

from amf.errors import DataError
from amf.training.losses import (
    DomainHead,
    SupervisedContrastiveLoss,
    adaptive_focal_loss,
    domain_loss,
    positive_class_weight,
    reversal_ramp,
)

# float32 arithmetic on values of order 1 to 10: a few units in the 7th digit
TOLERANCE = {"rel": 2e-5, "abs": 1e-6}


def naive_focal(z: float, y: float, w: float, gamma: float) -> float:
    p = 1 / (1 + math.exp(-z))
    p_t = y * p + (1 - y) * (1 - p)
    bce = -(w * y * math.log(p) + (1 - y) * math.log(1 - p))
    return (1 - p_t) ** gamma * bce


@pytest.mark.parametrize(("gamma", "positive_weight"), [(0.0, 1.0), (1.0, 5.74), (2.0, 1.0), (3.5, 5.74)])
def test_focal_loss_is_the_papers_formula_for_hard_and_soft_labels(gamma, positive_weight):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, 64)
    labels = np.concatenate([np.repeat([0.0, 1.0, 1 / 3, 2 / 3], 8), rng.uniform(0, 1, 32)])

    losses = adaptive_focal_loss(
        torch.tensor(logits), torch.tensor(labels), positive_weight, gamma, reduction="none"
    )
    expected = [naive_focal(z, y, positive_weight, gamma) for z, y in zip(logits, labels, strict=True)]

    assert losses.shape == (64,)
    assert losses.tolist() == pytest.approx(expected, **TOLERANCE)
    mean = adaptive_focal_loss(torch.tensor(logits), torch.tensor(labels), positive_weight, gamma)
    assert mean.item() == pytest.approx(np.mean(expected), **TOLERANCE)


def test_the_focal_loss_has_its_gradient_and_both_stay_finite_for_saturated_logits():
    logits = torch.tensor([200.0, -200.0, 200.0, -200.0], requires_grad=True)
    labels = torch.tensor([1.0, 0.0, 0.0, 1.0])
    losses = adaptive_focal_loss(logits, labels, 5.0, reduction="none")
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0, 0, 200, 1000])
    assert torch.isfinite(logits.grad).all()

    z, y, w, step = 0.7, 0.4, 3.0, 1e-5
    logit = torch.tensor([z], requires_grad=True)
    adaptive_focal_loss(logit, torch.tensor([y]), w).backward()
    slope = (naive_focal(z + step, y, w, 2) - naive_focal(z - step, y, w, 2)) / (2 * step)
    assert logit.grad.item() == pytest.approx(slope, rel=1e-4)


def test_positive_class_weight_counts_votes_of_one_half_as_atypical():
    labels = torch.tensor([1.0, 0.5, 1 / 3, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert positive_class_weight(labels) == 3.0


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_positive_class_weight_needs_both_classes(label):
    with pytest.raises(DataError, match="AMF and"):
        positive_class_weight(torch.full((5,), label))


def naive_supcon(embeddings: np.ndarray, labels: np.ndarray, temperature: float, epsilon: float) -> float:
    """Multi-Similarity mining, then SupCon over the mined pairs, one anchor at a time."""
    unit = [e / math.sqrt(sum(v * v for v in e)) for e in embeddings]
    classes = [y >= 0.5 for y in labels]
    n = len(unit)
    similarity = [[float(np.dot(unit[i], unit[j])) for j in range(n)] for i in range(n)]
    losses = []
    for i in range(n):
        positives = [j for j in range(n) if j != i and classes[j] == classes[i]]
        negatives = [j for j in range(n) if classes[j] != classes[i]]
        hardest_negative = max((similarity[i][j] for j in negatives), default=-math.inf)
        hardest_positive = min((similarity[i][j] for j in positives), default=math.inf)
        kept_positives = [j for j in positives if similarity[i][j] - epsilon < hardest_negative]
        kept_negatives = [j for j in negatives if similarity[i][j] + epsilon > hardest_positive]
        if not kept_positives:
            continue
        kept = kept_positives + kept_negatives
        log_denominator = math.log(sum(math.exp(similarity[i][j] / temperature) for j in kept))
        terms = [similarity[i][j] / temperature - log_denominator for j in kept_positives]
        losses.append(-sum(terms) / len(terms))
    above_zero = [loss for loss in losses if loss > 0]
    return sum(above_zero) / len(above_zero)


@pytest.mark.parametrize("seed", [0, 1])
def test_contrastive_loss_is_supcon_over_multi_similarity_pairs(seed):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0.0, 1.0, 1 / 3, 2 / 3, 0.5], rng.uniform(0, 1, 15)])
    # classes set apart a little, so that the miner drops some pairs and keeps others
    embeddings = rng.normal(0, 1, (20, 6)) + 1.5 * (labels >= 0.5)[:, None]
    loss = SupervisedContrastiveLoss()(torch.tensor(embeddings), torch.tensor(labels))
    expected = naive_supcon(embeddings, labels, 0.1, 0.1)
    assert loss.item() == pytest.approx(expected, **TOLERANCE)
    assert expected != pytest.approx(naive_supcon(embeddings, labels, 0.1, epsilon=10.0), rel=1e-3)


def test_losses_are_computed_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(3)
    embeddings, labels = torch.randn(12, 8, generator=generator), torch.rand(12, generator=generator)
    contrastive = SupervisedContrastiveLoss()
    with torch.autocast("cpu", torch.bfloat16):
        under = contrastive(embeddings, labels), adaptive_focal_loss(embeddings[:, 0], labels, 5.0)
    plain = contrastive(embeddings, labels), adaptive_focal_loss(embeddings[:, 0], labels, 5.0)
    assert under == plain
    assert contrastive(embeddings.bfloat16(), labels).dtype == torch.float32
    assert adaptive_focal_loss(embeddings[:, 0].bfloat16(), labels, 5.0).dtype == torch.float32


@pytest.mark.parametrize("case", ["one class", "well separated"])
def test_a_contrastive_loss_without_pairs_is_a_zero_that_can_be_differentiated(case):
    embeddings, labels = (
        torch.tensor([[1.0, 0], [2.0, 0], [-1.0, 0], [-3.0, 0]]),
        torch.tensor([0.0, 0, 1, 1]),
    )
    if case == "one class":  # else the cosines are 1 within a class and -1 across: the miner keeps no pair
        labels = torch.ones(4)
    loss = SupervisedContrastiveLoss()(embeddings.requires_grad_(), labels)
    loss.backward()
    assert loss.item() == 0
    assert embeddings.grad.abs().max().item() == 0


def test_domain_head_learns_while_the_features_unlearn():
    torch_generator = torch.Generator().manual_seed(0)
    head = DomainHead(4, 3)
    embeddings = torch.randn(9, 4, generator=torch_generator, requires_grad=True)
    domains, whole = torch.arange(9) % 3, torch.ones(9)
    assert torch.equal(head(embeddings, coefficient=0.5), head.linear(embeddings))
    domain_loss(head(embeddings, coefficient=0.5), domains, domains, whole).backward()
    reversed_gradient, head_gradient = embeddings.grad.clone(), head.linear.weight.grad.clone()

    embeddings.grad = None
    head.zero_grad()
    domain_loss(head.linear(embeddings), domains, domains, whole).backward()
    torch.testing.assert_close(reversed_gradient, -0.5 * embeddings.grad)
    torch.testing.assert_close(head_gradient, head.linear.weight.grad)


def naive_cross_entropy(row: np.ndarray, domain: int) -> float:
    return math.log(sum(math.exp(v) for v in row)) - row[domain]


def test_domain_loss_is_cross_entropy_and_weighs_both_domains_of_a_mixed_patch():
    rng = np.random.default_rng(4)
    logits, own, partner = rng.normal(0, 2, (32, 10)), rng.integers(0, 10, 32), rng.integers(0, 10, 32)
    lambdas = rng.beta(0.3, 0.3, 32)

    mixed = domain_loss(torch.tensor(logits), torch.tensor(own), torch.tensor(partner), torch.tensor(lambdas))
    expected = [
        lam * naive_cross_entropy(row, a) + (1 - lam) * naive_cross_entropy(row, b)
        for row, a, b, lam in zip(logits, own, partner, lambdas, strict=True)
    ]
    assert mixed.item() == pytest.approx(np.mean(expected), **TOLERANCE)


def test_reversal_ramp_runs_from_zero_to_almost_one():
    assert reversal_ramp(0.0) == 0
    assert reversal_ramp(0.1) == pytest.approx(math.tanh(0.5))  # the same function written another way
    assert reversal_ramp(1.0) == pytest.approx(0.9999092, abs=1e-7)
