"""MixUp against its formula, patch by patch, and its draws against their distribution."""

import numpy as np
import pytest
import torch

from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import MIXUPS, mix


def batch(size: int = 12, domains: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = generator_at(0)
    images = torch.rand((size, 3, 4, 4), generator=generator)
    labels = torch.randint(0, 4, (size,), generator=generator) / 3
    return images, labels, torch.arange(size) % domains


@pytest.mark.parametrize("name", MIXUPS)
def test_images_and_labels_are_blended_by_the_same_share(name):
    images, labels, domains = batch()
    mixed = mix(images, labels, MIXUPS[name], generator_at(1), domains)
    assert mixed.lambdas.shape == mixed.partners.shape == mixed.labels.shape == (12,)
    for i in range(12):
        share, partner = mixed.lambdas[i].item(), int(mixed.partners[i])
        expected = share * images[i].double() + (1 - share) * images[partner].double()
        torch.testing.assert_close(mixed.images[i].double(), expected, atol=1e-6, rtol=0)
        label = share * labels[i].item() + (1 - share) * labels[partner].item()
        assert mixed.labels[i].item() == pytest.approx(label, abs=1e-6)


@pytest.mark.parametrize("name", MIXUPS)
def test_the_generators_state_decides(name):
    images, labels, domains = batch()
    generator = generator_at(1)
    first, following = (mix(images, labels, MIXUPS[name], generator, domains) for _ in range(2))
    again = mix(images, labels, MIXUPS[name], generator_at(1), domains)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.lambdas, following.lambdas)
    assert first.images.dtype == torch.float32


@pytest.mark.parametrize(("name", "alpha"), [("standard", 0.3), ("strong", 1.0), ("domain_aware", 0.3)])
def test_the_shares_are_beta_distributed(name, alpha):
    labels, domains = torch.zeros(4000), torch.arange(4000) % 2
    shares = mix(torch.zeros(4000, 3, 1, 1), labels, MIXUPS[name], generator_at(3), domains).lambdas.numpy()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(shares.mean() - 0.5) < 4 * np.sqrt(variance / 4000)
    assert shares.var() == pytest.approx(variance, rel=0.05)
    assert 0 <= shares.min() <= shares.max() <= 1


def test_standard_partners_are_a_permutation():
    images, labels, _ = batch(50)
    partners = mix(images, labels, MIXUPS["standard"], generator_at(4)).partners
    assert sorted(partners.tolist()) == list(range(50))


def test_domain_aware_partners_come_from_any_other_domain():
    images, labels, _ = batch(600)
    domains = torch.cat([torch.zeros(550), torch.ones(25), torch.full((25,), 2)]).long()
    partners = mix(images, labels, MIXUPS["domain_aware"], generator_at(5), domains).partners
    assert (domains[partners] != domains).all()
    assert set(domains[partners[:550]].tolist()) == {1, 2}


def test_a_batch_of_one_domain_is_left_as_it_is():
    images, labels, _ = batch()
    mixed = mix(images, labels, MIXUPS["domain_aware"], generator_at(6), torch.zeros(12, dtype=torch.long))
    assert mixed.partners.tolist() == list(range(12))
    torch.testing.assert_close(mixed.images, images)
    torch.testing.assert_close(mixed.labels, labels)
