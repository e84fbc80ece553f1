"""How much memory a recipe's training takes, counted without weights: shapes alone go through the network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from amf.model.torchvision_shim import ensure_torchvision
from amf.training.losses import Trainee
from amf.training.network import freeze, without_weights
from amf.training.recipe import Recipe

COUNTED_BATCH = 4  # what a step keeps grows in proportion to its batch
WORKSPACE = 1_500_000_000
"""Bytes for the driver's context, libraries and fragments: an allowance, not counted."""


@dataclass(frozen=True)
class Memory:
    """Bytes of a training step: frozen weights; what is learnt, its gradient and optimiser; activations.

    Attributes
    ----------
    parameters : number of all parameters.
    """

    parameters: int
    weights: int
    learnt: int
    activations: int

    @property
    def total(self) -> int:
        """All of it, with an allowance for what cannot be counted."""
        return self.weights + self.learnt + self.activations + WORKSPACE


def count_memory(recipe: Recipe, domains: int, batch: int, element_size: int) -> Memory:
    """Count the bytes of a training step of `batch` patches with activations of `element_size` bytes.

    A network that starts from published weights is built on the meta device, which holds no data, and what
    autograd saves for the way back is summed. Attention is counted as its fused kernels save it: queries,
    keys, values, the output and one float32 a row. A network from random weights is small: it runs for real.

    Raises
    ------
    RecipeError : arguments or adapter targets that the backbone refuses.
    """
    with _on_meta() if recipe.model.weights != "random" else nullcontext():
        classifier = without_weights(recipe.model)
        freeze(classifier, recipe.model)
        trainee = Trainee(classifier, domains).train()

    frozen = sum(p.numel() for p in trainee.parameters() if not p.requires_grad)
    learnt = sum(p.numel() for p in trainee.parameters() if p.requires_grad)
    copies = 4 + (1 if recipe.optimise.ema else 0)  # weight, gradient, two moments, the average: float32
    own = element_size / next(trainee.parameters()).element_size()
    activations = own * _saved(trainee, recipe) * batch / COUNTED_BATCH
    return Memory(frozen + learnt, frozen * element_size, learnt * copies * 4, int(activations))


@contextmanager
def _on_meta() -> Iterator[None]:
    """Build without data, and without timm's fast norm, which asks for an autocast that meta has not."""
    ensure_torchvision()
    from timm.layers.fast_norm import is_fast_norm, set_fast_norm  # timm takes seconds to import

    was_fast = is_fast_norm()
    set_fast_norm(False)
    try:
        with torch.device("meta"):
            yield
    finally:
        set_fast_norm(was_fast)


def _saved(trainee: Trainee, recipe: Recipe) -> int:
    """Bytes that a forward pass of COUNTED_BATCH patches saves, in the trainee's own type."""
    parameters = {p.untyped_storage()._cdata for p in trainee.parameters()}
    kept: dict[int, Tensor] = {}
    seen = 0

    def keep(tensor: Tensor) -> Tensor:
        nonlocal seen
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters and storage._cdata not in kept:
            kept[storage._cdata] = tensor  # held, so that no other storage takes its place
            seen += storage.nbytes()
        return tensor

    blocks = list(getattr(getattr(trainee.classifier.backbone, "model", None), "blocks", []))
    starts, own, inputs = [0] * len(blocks), [0] * len(blocks), [0] * len(blocks)

    def before(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            starts[index] = seen
            inputs[index] = arguments[0].numel() * arguments[0].element_size()

        return hook

    def after(index: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            own[index] = seen - starts[index]

        return hook

    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(before(index))
        block.register_forward_hook(after(index))
    parameter, side = next(trainee.parameters()), recipe.model.image.input_px
    x = torch.zeros(COUNTED_BATCH, 3, side, side, device=parameter.device, dtype=parameter.dtype)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), _FusedAttention():
        trainee(x, 1.0)
    share = recipe.optimise.activation_checkpointing
    again = [i for i in range(len(blocks)) if int((i + 1) * share) > int(i * share)]
    recomputed = [own[i] for i in again]
    return seen - sum(recomputed) + sum(inputs[i] for i in again) + max(recomputed, default=0)


class _FusedAttention(TorchFunctionMode):
    """Attention that computes nothing and saves what the fused kernels save."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is functional.scaled_dot_product_attention:
            return _Attention.apply(*args[:3])  # type: ignore[no-untyped-call]
        return function(*args, **(kwargs or {}))


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        output, row_sums = torch.empty_like(q), q.new_empty(q.shape[:-1], dtype=torch.float32)
        context.save_for_backward(q, k, v, output, row_sums)
        return output

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        raise NotImplementedError("counted, never run backwards")
