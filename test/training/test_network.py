"""From a recipe to the network that is trained: what learns, what is frozen, and in which type it is held."""

from pathlib import Path

import pytest
import torch
from torch import nn

from amf.errors import RecipeError
from amf.model.classifier import Classifier
from amf.training.losses import Trainee
from amf.training.network import (
    adapt,
    build_classifier,
    cast_frozen,
    decay_groups,
    fuse_norms,
    recompute_activations,
    trainable_state,
)
from amf.training.recipe import Model, Recipe, override, read_recipe
from test.support.paths import ROOT
from test.support.small import FAMILIES, TARGETS, adapted_recipe, compact_recipe, publish

FROZEN = {
    "model.backbone": "efficientnet-lite0",
    "model.arguments": {},
    "model.weights": "imagenet",
    "model.frozen_blocks": 17,
}


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """LoRA on a small ViT, whose weights are at hand."""
    return adapted_recipe(publish(tmp_path_factory.mktemp("weights") / "w.safetensors", "h-optimus-0"))


def parameters(module: nn.Module, trainable: bool) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad == trainable)


@pytest.mark.parametrize(
    ("name", "width", "depth", "fc1", "embedding"),
    [("h-optimus-0", 1536, 40, 8192, 1536), ("virchow2", 1280, 32, 6832, 2560)],
)
def test_full_size_recipes_build_without_memory_and_count_right(
    name: str, width: int, depth: int, fc1: int, embedding: int
) -> None:
    spec = read_recipe(ROOT / "recipes" / f"{name}.yaml").model
    assert spec.lora is not None
    fuse_norms(False)  # another test may have chosen otherwise
    with torch.device("meta"):
        classifier = Classifier(spec.backbone, spec.arguments, spec.head)
        adapt(classifier.backbone, spec.lora)
        trainee = Trainee(classifier, domains=10)
    assert {p.device.type for p in trainee.parameters()} == {"meta"}

    # an adapter of rank r on a layer of a inputs and b outputs has r a + b r values
    layers = (width + 3 * width) + (width + width) + (width + fc1) + (fc1 // 2 + width)
    adapters = 8 * depth * layers
    head = embedding * 256 + 256 + 256 + 1
    assert parameters(classifier, trainable=True) == adapters + head
    assert parameters(trainee, trainable=True) == adapters + head + 256 * 10 + 10

    logits, embeddings, domains = trainee(torch.empty(2, 3, 224, 224, device="meta"), 1.0)
    assert (logits.shape, embeddings.shape, domains.shape) == ((2,), (2, 256), (2, 10))


@pytest.mark.parametrize("backbone", FAMILIES)
def test_the_network_is_that_of_the_seed_and_of_the_published_weights(tmp_path: Path, backbone: str) -> None:
    weights = publish(tmp_path / "weights.safetensors", backbone)
    spec = adapted_recipe(weights, backbone).model
    states = [build_classifier(spec, seed).state_dict() for seed in (0, 0, 1)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    differing = {k for k in states[0] if not torch.equal(states[0][k], states[2][k])}
    assert differing == {k for k in states[0] if "lora_A" in k or k.startswith(("hidden", "logit"))}
    assert not any(t.is_meta for t in states[0].values())


def test_a_frozen_backbone_leaves_the_head_to_learn(adapted: Recipe) -> None:
    recipe = override(adapted, {"model.train": "head", "model.lora": None})
    trainee = Trainee(build_classifier(recipe.model, 0), domains=3)
    assert parameters(trainee, trainable=True) == (32 * 16 + 16) + (16 + 1) + (16 * 3 + 3)
    trainee.train()
    assert not trainee.classifier.backbone.training
    assert trainee.classifier.hidden.training


def test_what_is_trainable_is_saved_and_nothing_else(adapted: Recipe) -> None:
    whole = Trainee(build_classifier(compact_recipe().model, 0), domains=3)
    assert trainable_state(whole).keys() == whole.state_dict().keys()  # batch statistics included
    some = Trainee(build_classifier(adapted.model, 0), domains=3)
    assert trainable_state(some).keys() == {n for n, p in some.named_parameters() if p.requires_grad}
    for name, tensor in trainable_state(some).items():  # the network's own memory
        assert tensor.data_ptr() == some.state_dict()[name].data_ptr()


def test_frozen_weights_are_held_once_in_the_compute_type(adapted: Recipe) -> None:
    trainee = Trainee(build_classifier(adapted.model, 0), domains=3)
    cast_frozen(trainee, torch.bfloat16)
    assert {p.dtype for p in trainee.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert {p.dtype for p in trainee.parameters() if p.requires_grad} == {torch.float32}
    compact = Trainee(build_classifier(compact_recipe().model, 0), domains=3).requires_grad_(False)
    cast_frozen(compact, torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):  # batch norms kept the type of their statistics
        assert compact.eval()(torch.zeros(2, 3, 32, 32), 1.0)[0].isfinite().all()


@pytest.mark.parametrize(("share", "recomputed"), [(0.5, [1]), (1.0, [0, 1])])
def test_recomputing_blocks_changes_no_gradient(adapted: Recipe, share: float, recomputed: list[int]) -> None:
    gradients = []
    for applied in (0.0, share):
        classifier = build_classifier(adapted.model, 0).train()
        recompute_activations(classifier, applied)
        blocks = classifier.backbone.model.blocks
        changed = [i for i, block in enumerate(blocks) if "forward" in vars(block)]
        assert changed == (recomputed if applied == share else [])
        x = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(0))
        torch.manual_seed(1)  # dropout: the second pass must draw what the first drew
        classifier(x)[0].sum().backward()
        gradients.append([p.grad for p in classifier.parameters() if p.requires_grad])
        with torch.inference_mode():
            classifier.eval()(x)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def grouped(module: nn.Module) -> list[set[str]]:
    """Names of the parameters that decay, and of those that do not."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = decay_groups(module, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    return [{names[parameter] for parameter in group["params"]} for group in groups]


@pytest.mark.parametrize("changes", [{}, {"model.symmetric": True}])
def test_filters_and_matrices_decay_norms_and_biases_do_not(changes: dict[str, bool]) -> None:
    spec = override(compact_recipe(), changes).model
    module = Trainee(build_classifier(spec, seed=0), domains=3)
    decayed, exempt = grouped(module)
    assert decayed | exempt == {name for name, _ in module.named_parameters()}
    assert all(("norm" in name or "bias" in name) == (name in exempt) for name in decayed | exempt)
    assert sum("conv" in name for name in decayed) == 4
    assert {"domain_head.linear.weight"} < decayed
    assert {"domain_head.linear.bias", "classifier.logit.bias"} < exempt


def test_a_vits_weight_decay_is_grouped_as_timm_does(adapted: Recipe) -> None:
    whole = adapted.model.model_copy(update={"train": "all", "lora": None})
    vit = build_classifier(whole, seed=0).backbone.model
    from timm.optim import param_groups_weight_decay

    exempt, decayed = param_groups_weight_decay(vit, 0.1, no_weight_decay_list=vit.no_weight_decay())
    names = {parameter: name for name, parameter in vit.named_parameters()}
    assert grouped(vit) == [{names[p] for p in group["params"]} for group in (decayed, exempt)]
    assert "cls_token" in grouped(vit)[1]
    decayed_names, exempt_names = grouped(build_classifier(adapted.model, seed=0))
    assert sum("lora_" in name for name in decayed_names) == 2 * 2 * len(TARGETS)
    assert exempt_names == {"hidden.0.bias", "logit.bias"}


def test_the_embedding_is_taken_before_dropout() -> None:
    classifier = build_classifier(override(compact_recipe(), {"model.dropout": 0.9}).model, seed=0).train()
    x = torch.randn(4, 3, 32, 32)
    (logits, embeddings), (others, same) = classifier(x), classifier(x)
    assert torch.equal(embeddings, same)
    assert not torch.equal(logits, others)
    assert embeddings.all()  # GELU gives no exact zeros, dropout nine in ten


def test_frozen_blocks_stay_as_published_and_their_norms_too() -> None:
    spec = Model(backbone="efficientnet-lite0", weights="imagenet", train="all", frozen_blocks=3, hidden=8)
    network = Trainee(build_classifier(spec, seed=0), domains=2).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    logits, _, domains = network(torch.randn(4, 3, 64, 64), 1.0)
    (logits.square().sum() + domains.sum()).backward()
    optimiser.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    front = ("classifier.backbone.stem.", *(f"classifier.backbone.blocks.{block}." for block in range(3)))
    assert not any(name.startswith(front) for name in changed)
    assert {"classifier.backbone.blocks.3.layers.0.norm.running_mean", "classifier.logit.weight"} <= changed
    assert changed <= trainable_state(network).keys()  # nothing that was learnt is left out of a checkpoint
    assert not any(name.startswith(front) for name in trainable_state(network))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model.backbone": "h-optimus-0", "model.arguments": {"depht": 2}}, "'h-optimus-0' cannot be built"),
        ({"model.frozen_blocks": 3}, "frozen_blocks is for an EfficientNet-Lite"),
        (FROZEN | {"model.weights": "random"}, "frozen_blocks is for an EfficientNet-Lite"),
        (FROZEN | {"model.train": "head"}, "frozen_blocks is for an EfficientNet-Lite"),
        (FROZEN, "frozen_blocks is 17, expected at most the network's 16"),
    ],
)
def test_a_network_that_cannot_be_built_is_one_sentence(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(RecipeError, match=fault) as caught:
        build_classifier(override(compact_recipe(), changes).model, seed=0)
    assert "\n" not in str(caught.value)


def test_a_backbone_without_timm_blocks_cannot_recompute() -> None:
    with pytest.raises(RecipeError, match="activation_checkpointing: this backbone has no blocks"):
        recompute_activations(build_classifier(compact_recipe().model, 0), 0.5)
