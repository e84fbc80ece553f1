"""The numbers that docs/method.md states of the method's parts together."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import logit

from amf.training.batches import draw, sampling_weights
from amf.training.losses import adaptive_focal_loss, positive_class_weight

# Figures and AMF of MIDOG25's ten domains (the label table of the official training set).
DOMAINS = [
    (2327, 351), (855, 110), (3959, 317), (1097, 197), (189, 13),
    (688, 172), (582, 127), (451, 105), (1150, 271), (639, 85),
]  # fmt: skip
LABELS = np.concatenate([np.repeat([1.0, 0.0], [amf, size - amf]) for size, amf in DOMAINS]).astype(
    np.float32
)
OF_DOMAIN = np.repeat(np.arange(len(DOMAINS)), [size for size, _ in DOMAINS])


def drawn_weight(domains: np.ndarray) -> float:
    """Mean over twenty epochs of w₊ of the figures that the sampler draws."""
    weights = sampling_weights(LABELS, domains)
    epochs = [draw(weights, seed=0, epoch=epoch, draws=11_328) for epoch in range(20)]
    return float(np.mean([positive_class_weight(torch.from_numpy(LABELS[order])) for order in epochs]))


def test_the_drawn_figures_class_weight_is_close_to_one() -> None:
    assert positive_class_weight(torch.from_numpy(LABELS)) == pytest.approx(5.83, abs=0.005)
    assert drawn_weight(np.zeros(len(LABELS), int)) == pytest.approx(1, abs=0.01)
    # by hand: a domain's share of AMF, weighed by one over its size
    amf, total = sum(a for _, a in DOMAINS), len(LABELS)
    positive = sum(a / size for size, a in DOMAINS) / amf
    negative = sum((size - a) / size for size, a in DOMAINS) / (total - amf)
    assert negative / positive == pytest.approx(0.851, abs=0.0005)
    assert drawn_weight(OF_DOMAIN) == pytest.approx(negative / positive, abs=0.01)


@pytest.mark.parametrize(("label", "least"), [(1 / 3, 0.163), (2 / 3, 0.837)])
def test_the_focal_loss_sharpens_soft_labels(label: float, least: float) -> None:
    def loss(p: float, gamma: float) -> float:
        return adaptive_focal_loss(torch.tensor([logit(p)]), torch.tensor([label]), 1.0, gamma).item()

    for gamma, expected in ((2.0, least), (0.0, label)):
        found = minimize_scalar(loss, bounds=(0.01, 0.99), args=(gamma,), method="bounded").x
        assert found == pytest.approx(expected, abs=0.001)
