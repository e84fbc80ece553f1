import pytest
import torch

from amf.errors import RecipeError
from amf.model.classifier import Classifier, HeadSpec
from amf.model.views import views
from amf.training.network import build_classifier
from amf.training.recipe import Model
from amf.training.tied_weights import ORDER, tie, untie

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


@pytest.mark.parametrize("hidden", [0, 12])
def test_every_view_of_a_figure_gets_the_same_logit(hidden: int) -> None:
    torch.manual_seed(0)
    plain = Classifier("compact", {"widths": WIDTHS}, HeadSpec(hidden)).eval()
    classifier = trained_a_little(hidden)
    untie(classifier)
    image = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        logits = torch.stack([classifier(view)[0] for view in views(image, ORDER)])
        other = classifier(image.roll(5, 2))[0]
        untied = torch.stack([plain(view)[0] for view in views(image, ORDER)])
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), atol=1e-5, rtol=1e-5)
    assert (other - logits[0]).abs().max() > 1e-3  # it does look at the image
    assert untied.std(0).min() > 1e-4  # by the tie, not by chance


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


def test_widths_come_in_eights() -> None:
    spec = Model(
        backbone="compact", arguments={"widths": [12]}, weights="random", train="all", symmetric=True
    )
    with pytest.raises(RecipeError, match="12 channels, expected a multiple of 8"):
        build_classifier(spec, 0)
