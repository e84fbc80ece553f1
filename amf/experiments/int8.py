"""int8 weights for a bundle: outlying activations evened out, weights rounded, the answers held to float32's.

SmoothQuant (Xiao et al., ICML 2023): where a channel of activations is far larger than the others, rounding
them together loses the others. The channel is divided by a factor in the layer before, which is linear in it,
and the weights that read it are multiplied: in exact arithmetic the network is the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr
from torch import Tensor, nn

from amf.errors import DataError
from amf.inference.predict import Predictor, score
from amf.inference.ready import make_ready, reason_against_int8
from amf.model.bundle import Bundle
from amf.model.classifier import CLASSES, Classifier
from amf.model.device import choose_device
from amf.model.int8 import store_as_int8
from amf.model.spec import BundleSpec, MemberSpec
from amf.model.vit import Attention, Block, SwiGlu, Vit

SMOOTHED_ON, COMPARED_ON = 32, 500
"""Patches whose activations choose the factors, and patches whose answers are compared, at most."""

MAX_MOVED, MIN_RANK_CORRELATION = 0.02, 0.999
"""What int8 may do to P(atypical); no class may change further than MAX_MOVED from the threshold."""


def as_int8(
    spec: BundleSpec, precise: Sequence[Mapping[str, Tensor]], patches: NDArray[np.uint8]
) -> tuple[list[Mapping[str, Tensor]], dict[str, Any]]:
    """Each member's tensors as the bundle stores them, those of type int8 rounded; and the report on answers.

    Parameters
    ----------
    spec : the bundle; precise : each member's float32 tensors; patches : (N, 128, 128, 3) uint8.

    Raises
    ------
    DataError : a network has no int8 form, answers change too much, or this machine cannot compute int8.
    """
    if (why := reason_against_int8(torch.device("cpu"), torch.bfloat16)) is not None:
        raise DataError(f"storage is int8, which cannot be checked here: {why}")
    stored = [
        int8_member(member, tensors, patches) if member.dtype == "int8" else tensors
        for member, tensors in zip(spec.members, precise, strict=True)
    ]
    compared = evenly(patches, COMPARED_ON)
    bundle = Bundle(spec, tuple(map(served, spec.members, stored)))
    report = moves(bundle, compared, float32_confidences(spec, precise, compared))
    if not is_close(report):
        raise DataError(
            f"storage int8 moves P(atypical) by up to {report['largest move']:.4f} (rank correlation "
            f"{report['rank correlation']:.5f}, {report['classes changed far']} classes changed), expected "
            f"at most {MAX_MOVED} (at least {MIN_RANK_CORRELATION}, none): use storage bfloat16"
        )
    return stored, report


def int8_member(
    spec: MemberSpec, tensors: Mapping[str, Tensor], patches: NDArray[np.uint8]
) -> dict[str, Tensor]:
    """A float32 network's tensors as an int8 bundle stores them.

    Parameters
    ----------
    patches : (N, 128, 128, 3) uint8, of the kind that will be scored; some choose the smoothing factors.

    Raises
    ------
    DataError : the network is not one of our vision transformers.
    """
    classifier = served(spec, tensors)
    vit = getattr(classifier.backbone, "model", None)
    if not isinstance(vit, Vit):
        raise DataError(
            f"storage is int8 and the backbone {spec.backbone!r}, expected one of the vision transformers "
            "that amf/model/vit.py holds; bfloat16 is for all"
        )
    device = choose_device("auto")
    classifier.to(device)
    largest = _largest_activations(classifier, spec, evenly(patches, SMOOTHED_ON))
    classifier.cpu()
    with torch.no_grad():
        for block in vit.blocks:
            smooth(block, largest)  # type: ignore[arg-type]
    state = dict(classifier.state_dict())
    for name, layer in classifier.backbone.named_modules(prefix="backbone"):
        if isinstance(layer, nn.Linear):
            state[f"{name}.weight"], state[f"{name}.weight_scale"] = rounded(layer.weight.detach())
    return state


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (outputs, inputs) as int8 of -127 to 127, and the scale of each output, float32."""
    scale = weight.abs().amax(1).div_(127).clamp_(1e-12)  # (outputs,)
    return (weight / scale[:, None]).round_().to(torch.int8), scale


def smooth(block: Block, largest: Mapping[nn.Module, Tensor]) -> None:
    """Even out what the block's four linear layers read, in place.

    `largest` gives, for each of them, the largest magnitude of each of its inputs.
    """
    qkv, proj, fc1, fc2 = block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2
    values, gated = slice(-proj.in_features, None), slice(fc2.in_features, None)
    for layer, weight, bias in (
        (proj, qkv.weight[values], qkv.bias[values]),
        (fc2, fc1.weight[gated], fc1.bias[gated]),
        (qkv, block.norm1.weight, block.norm1.bias),
        (fc1, block.norm2.weight, block.norm2.bias),
    ):
        _move(layer, largest[layer], (weight, bias))


def _move(layer: nn.Linear, largest: Tensor, before: tuple[Tensor, Tensor]) -> None:
    """Divide the layer's inputs, which `before` makes, and multiply the weights that read them."""
    weights = layer.weight.abs().amax(0)  # (inputs,)
    factor = (largest.cpu().clamp(1e-5) / weights.clamp(1e-5)).sqrt()
    factor = torch.exp2((factor / factor.median()).log2().round())  # powers of two round nothing
    layer.weight *= factor
    for tensor in before:
        tensor /= factor[:, None] if tensor.ndim == 2 else factor


def _largest_activations(
    classifier: Classifier, spec: MemberSpec, patches: NDArray[np.uint8]
) -> dict[nn.Module, Tensor]:
    largest: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        seen = inputs[0].abs().flatten(0, -2).amax(0)
        largest[layer] = torch.maximum(largest[layer], seen) if layer in largest else seen

    hooks = [
        layer.register_forward_pre_hook(note)
        for parent in classifier.backbone.modules()
        if isinstance(parent, Attention | SwiGlu)
        for layer in parent.children()
    ]
    score(classifier, [torch.from_numpy(p[None]) for p in patches], spec.image, spec.views, torch.float32)
    for hook in hooks:
        hook.remove()
    return largest


def float32_confidences(
    spec: BundleSpec, precise: Sequence[Mapping[str, Tensor]], patches: NDArray[np.uint8]
) -> NDArray[np.float64]:
    """P(atypical) (N,) of a bundle whose members compute in float32, page by page.

    Parameters
    ----------
    precise : each member's float32 tensors, left as they are. patches : (N, 128, 128, 3) uint8.
    """
    device, pages, logits = choose_device("auto"), [torch.from_numpy(page[None]) for page in patches], []
    for member, tensors in zip(spec.members, precise, strict=True):
        network = served(member, tensors)
        make_ready(network, device, torch.float32)
        logits.append(score(network, pages, member.image, member.views, torch.float32).numpy())
    return np.asarray(expit(np.mean(logits, axis=0) / spec.temperature + spec.bias))


def is_close(report: Mapping[str, Any]) -> bool:
    """Whether answers differ by no more than a type of storage may make them."""
    return bool(
        report["largest move"] <= MAX_MOVED
        and report["classes changed far"] == 0
        and report["rank correlation"] >= MIN_RANK_CORRELATION
    )


def moves(bundle: Bundle, patches: NDArray[np.uint8], expected: NDArray[np.float64]) -> dict[str, Any]:
    """How far a bundle's answers on the CPU are from the P(atypical) (N,) expected; which classes differ."""
    threshold, answers = bundle.spec.threshold, Predictor(bundle, "cpu").predict(patches)
    given, labels = np.array([a.confidence for a in answers]), np.array([a.label for a in answers])
    moved = np.abs(given - expected)
    changed = labels != np.array(CLASSES)[(expected >= threshold).astype(int)]
    return {
        "patches": len(given),
        "largest move": float(moved.max()),
        "mean move": float(moved.mean()),
        "rank correlation": float(spearmanr(given, expected).statistic),
        "classes changed": int(changed.sum()),
        "classes changed far": int((changed & (np.abs(expected - threshold) > MAX_MOVED)).sum()),
        "answers from": float(expected.min()),
        "answers to": float(expected.max()),
    }


def evenly(patches: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most `count` patches, evenly spaced over all."""
    return np.array(patches[np.linspace(0, len(patches) - 1, min(count, len(patches))).astype(int)])


def served(spec: MemberSpec, tensors: Mapping[str, Tensor]) -> Classifier:
    """The network that a bundle loads of these tensors, without the bundle; it has copies of them."""
    with torch.device("meta"):
        network = Classifier(spec.backbone, spec.arguments, spec.head, to_serve=True)
        if any(tensor.dtype == torch.int8 for tensor in tensors.values()):
            store_as_int8(network.backbone)
    network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()}, assign=True)
    return network.eval().requires_grad_(False)
