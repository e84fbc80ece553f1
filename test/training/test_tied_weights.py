import pytest
import torch

from amf.errors import RecipeError
from amf.model.classifier import Classifier, HeadSpec
from amf.model.views import views
from amf.training.network import build_classifier
from amf.training.recipe import Model
from amf.training.tied_weights import ORDER, move, relative_symmetries, tie, untie

WIDTHS = (8, 16, 24)


def trained_a_little(hidden: int) -> Classifier:
    torch.manual_seed(0)
    classifier = Classifier("compact", {"widths": WIDTHS}, HeadSpec(hidden))
    tie(classifier)
    optimiser = torch.optim.AdamW(classifier.parameters(), 0.01)
    for _ in range(5):
        logits, _ = classifier(torch.randn(8, 3, 32, 32))
        logits.square().mean().backward()
        optimiser.step()
    return classifier.eval()


def test_the_symmetries_are_a_group() -> None:
    table = relative_symmetries()
    everything = torch.arange(ORDER)
    assert torch.equal(table.sort(0).values, everything[:, None].expand(-1, ORDER))  # a Latin square
    assert torch.equal(table.sort(1).values, everything.expand(ORDER, -1))
    assert torch.equal(table[0], everything)
    picture = torch.randn(5, 5)
    for g in range(ORDER):
        for h in range(ORDER):
            assert torch.equal(move(move(picture, int(table[g, h])), g), move(picture, h))


@pytest.mark.parametrize("hidden", [0, 12])
def test_every_view_of_a_figure_gets_the_same_logit(hidden: int) -> None:
    classifier = trained_a_little(hidden)
    untie(classifier)
    image = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        logits = torch.stack([classifier(view)[0] for view in views(image, ORDER)])
        other = classifier(image.roll(5, 2))[0]
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), atol=1e-5, rtol=1e-5)
    assert (other - logits[0]).abs().max() > 1e-3  # it does look at the image


def test_without_the_tie_the_views_differ() -> None:
    torch.manual_seed(0)
    classifier = Classifier("compact", {"widths": WIDTHS}, HeadSpec(12)).eval()
    with torch.no_grad():
        logits = torch.stack([classifier(view)[0] for view in views(torch.randn(4, 3, 64, 64), ORDER)])
    assert logits.std(0).min() > 1e-4


def test_an_untied_network_is_the_plain_one_of_the_same_function() -> None:
    classifier = trained_a_little(12)
    image = torch.randn(4, 3, 32, 32)
    for norm in (m for m in classifier.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(statistic[: len(statistic) // ORDER].repeat(ORDER))  # so that averaging is exact
    with torch.no_grad():
        tied, _ = classifier(image)
        untie(classifier)
        plain, _ = classifier(image)
    torch.testing.assert_close(tied, plain)
    fresh = Classifier("compact", {"widths": WIDTHS}, HeadSpec(12))
    assert fresh.state_dict().keys() == classifier.state_dict().keys()


def test_an_eighth_of_the_weights_is_learnt() -> None:
    def count(symmetric: bool) -> int:
        spec = Model(backbone="compact", weights="random", train="all", symmetric=symmetric, hidden=0)
        backbone = build_classifier(spec, 0).backbone
        return sum(parameter.numel() for parameter in backbone.parameters())

    assert count(True) * ORDER == count(False)


def test_widths_come_in_eights() -> None:
    spec = Model(
        backbone="compact", arguments={"widths": [12]}, weights="random", train="all", symmetric=True
    )
    with pytest.raises(RecipeError, match="12 channels, expected a multiple of 8"):
        build_classifier(spec, 0)
