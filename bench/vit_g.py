"""A network of H-optimus-0's shape whose answers spread, as its published weights are not at hand.

Weights are random, at the scale that lets every block change its input; as in trained vision transformers, a
few channels are 50 to 100 times the rest, in the stream and before each linear layer. The head is fitted to
the labels of real patches: on the embeddings' main directions, so that answers depend on what differs most.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from amf.inference.predict import score
from amf.model.backbones import BACKBONES, VitBackbone
from amf.model.classifier import Classifier, HeadSpec
from amf.model.spec import MemberSpec

HEAD = HeadSpec(hidden=256)
OUTLYING = 4
"""Channels that are planted as outlying in each place."""

LAYER_SCALE = 0.075
"""Median of the layer scales. At .15 forty random blocks amplify rounding: bfloat16 alone moves an embedding
by a sixth of what patches differ by. At .075 it is a fiftieth.
"""

FITTED_ON = 24
"""Patches that the head is fitted to."""

MAIN_DIRECTIONS = 4
"""Of the embeddings of these patches, which the head reads; what it has learnt from is large, not noise."""

LOGIT_SPREAD = 2.0
"""Standard deviation of the logits of the patches that the head was fitted to."""


def member(depth: int = 40) -> MemberSpec:
    """H-optimus-0 of so many blocks, as a bundle describes it."""
    arguments = {} if depth == 40 else {"depth": depth}
    image = BACKBONES["h-optimus-0"].image
    return MemberSpec("h-optimus-0", arguments, HEAD, image, 1, "set-by-write.safetensors", "", "bfloat16")


def random_network(spec: MemberSpec, seed: int = 0) -> Classifier:
    """The network in float32, its head random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        network = Classifier(spec.backbone, spec.arguments, spec.head, to_serve=True)
    network = network.to_empty(device="cpu").eval().requires_grad_(False)
    for name, tensor in network.state_dict().items():
        if name.endswith("gamma"):
            tensor.normal_(generator=generator).mul_(0.5).exp_().mul_(LAYER_SCALE)
        elif tensor.ndim == 1:
            tensor.normal_(std=0.02, generator=generator)
            if "norm" in name and name.endswith("weight"):
                tensor.add_(1)
        else:
            fan_in = 4 if "embed" in name and "proj" not in name else tensor[0].numel()
            tensor.normal_(std=fan_in**-0.5, generator=generator)
    assert isinstance(network.backbone, VitBackbone)
    plant_outliers(network.backbone, generator)
    return network


def plant_outliers(backbone: VitBackbone, generator: torch.Generator) -> None:
    """Make some channels 50 to 100 times as large, and what reads them as much smaller, in place."""
    vit = backbone.model
    width = vit.num_features

    def some(channels: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randperm(channels, generator=generator)[:OUTLYING]
        return chosen, torch.rand(OUTLYING, generator=generator) * 50 + 50

    stream, size = some(width)
    for tokens in (vit.cls_token, vit.reg_token):
        tokens[..., stream] += size
    vit.patch_embed["proj"].bias[stream] += size
    vit.norm.weight[stream] /= size  # what the head reads is of one size
    vit.norm.weight *= (1 + size.square().sum() / width).sqrt()
    for block in vit.blocks:
        attention, mlp = block.attn, block.mlp
        for norm, reader in ((block.norm1, attention.qkv), (block.norm2, mlp.fc1)):
            norm.weight *= (1 + size.square().sum() / width).sqrt()  # the stream's outliers shrink the rest
            norm.weight[stream] /= size
            chosen, factor = some(width)
            norm.weight[chosen] *= factor
            norm.bias[chosen] *= factor
            reader.weight[:, chosen] /= factor
        for maker, first, reader in (
            (attention.qkv, 2 * width, attention.proj),
            (mlp.fc1, mlp.fc2.in_features, mlp.fc2),
        ):
            chosen, factor = some(reader.in_features)
            maker.weight[first + chosen] *= factor[:, None]
            maker.bias[first + chosen] *= factor
            reader.weight[:, chosen] /= factor


def fit_head(
    network: Classifier, spec: MemberSpec, patches: NDArray[np.uint8], labels: NDArray[np.int64]
) -> None:
    """Fit the head by logistic regression, then scale its logits to LOGIT_SPREAD; in place."""
    embeddings = embed(network, spec, patches)  # (N, width)
    centre = embeddings.mean(0)
    main = torch.linalg.svd(embeddings - centre, full_matrices=False).Vh[:MAIN_DIRECTIONS]
    x, y = (embeddings - centre) @ main.T, torch.from_numpy(labels).float()
    scale = x.std()
    x /= scale
    generator = torch.Generator().manual_seed(0)
    hidden, logit = network.hidden[0], network.logit  # type: ignore[index]
    head = nn.Sequential(nn.Linear(x.shape[1], HEAD.hidden), nn.GELU(), nn.Linear(HEAD.hidden, 1))
    for layer in (head[0], head[2]):
        layer.weight.data.normal_(std=layer.in_features**-0.5, generator=generator)
        layer.bias.data.zero_()
    optimiser = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(head(x).squeeze(1), y).backward()
        optimiser.step()
    with torch.no_grad():
        z = head(x).squeeze(1)
        gain = LOGIT_SPREAD / z.std()
        hidden.weight.copy_(head[0].weight @ main / scale)
        hidden.bias.copy_(head[0].bias - hidden.weight @ centre)
        logit.weight.copy_(head[2].weight * gain)
        logit.bias.copy_((head[2].bias - z.mean()) * gain)


def embed(network: Classifier, spec: MemberSpec, patches: NDArray[np.uint8]) -> Tensor:
    """Embeddings (N, width) of the backbone in float32, page by page."""
    seen: list[Tensor] = []
    hook = network.backbone.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    score(network, [torch.from_numpy(page[None]) for page in patches], spec.image, 1, torch.float32)
    hook.remove()
    return torch.cat(seen)
