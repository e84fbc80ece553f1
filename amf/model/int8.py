"""Linear layers with int8 weights, as a bundle stores them, and the plain way to compute them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALE = "weight_scale"
"""Name of an int8 layer's scales, which are float32 whatever type the other tensors are stored in."""


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8 with one scale per output: weight = int8 x scale.

    `forward` computes with the whole weights, in the type of its input; amf/cpu/ has a quicker kernel.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, dtype=torch.int8), requires_grad=False)
        self.weight_scale = nn.Parameter(torch.ones(outputs), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) → (..., outputs)."""
        return functional.linear(x, self.whole_weight().to(x.dtype), self.bias.to(x.dtype))

    def whole_weight(self) -> Tensor:
        """Weights (outputs, inputs) in float32."""
        return self.weight * self.weight_scale[:, None]


def store_as_int8(module: nn.Module) -> None:
    """Put an Int8Linear, its values yet to be loaded, in the place of every linear layer; in place.

    Raises
    ------
    ValueError : there is none.
    """
    if not replace(module, nn.Linear, lambda layer: Int8Linear(layer.in_features, layer.out_features)):
        raise ValueError("dtype is int8, but the backbone has no linear layers")


def make_whole(module: nn.Module, dtype: torch.dtype) -> None:
    """Put an ordinary linear layer in the place of every Int8Linear; in place."""

    def whole(layer: Int8Linear) -> nn.Linear:
        outputs, inputs = layer.weight.shape
        linear = nn.Linear(inputs, outputs, device="meta")
        linear.weight = nn.Parameter(layer.whole_weight().to(dtype), requires_grad=False)
        linear.bias = nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
        return linear

    replace(module, Int8Linear, whole)


def replace(module: nn.Module, kind: type[nn.Module], replacement: Callable[[Any], nn.Module]) -> int:
    """Replace the layers of one type, and count them.

    One after the other, so that each one's memory is free before the next one's is taken.
    """
    places = [
        (parent, name)
        for parent in module.modules()
        for name, child in parent.named_children()
        if type(child) is kind
    ]
    for parent, name in places:
        setattr(parent, name, replacement(getattr(parent, name)))
    return len(places)
