"""Convolutions as a CPU computes them fastest: weights in its kernels' order, ReLU in the same pass."""

import torch
from torch import Tensor, nn

from amf.cpu.linear import has_kernel
from amf.model.int8 import replace

FUSED: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}
"""Activations that the kernel applies to what it is about to store, by its names for them."""


class PackedConvolution(nn.Module):
    """A convolution on the CPU and the activation behind it, if any.

    In bfloat16 its numbers are the plain layer's to the last bit. The plain weight would be reordered at
    every call, which is half the time of a single page.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self._geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self._plain = conv.weight.detach()
        self._packed: Tensor | None = None
        self._bias = None if conv.bias is None else conv.bias.detach().clone()
        self._fused = FUSED[type(activation)] if activation is not None else ("none", [])

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) → (B, C_out, H', W'), of the convolution's type."""
        if self._packed is None:  # for the first size: its kernel is needed in any case
            pack = torch.ops.mkldnn._reorder_convolution_weight
            self._packed = pack(self._plain, *self._geometry, list(x.shape))
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self._bias, *self._geometry, *self._fused, ""
        )
        return y


def pack_convolutions(module: nn.Module) -> None:
    """Replace convolutions, and pairs of one and its ReLU or ReLU6 in an nn.Sequential; in place."""
    if has_kernel("_convolution_pointwise"):
        replace(module, nn.Sequential, _packed_pair)
        replace(module, nn.Conv2d, _packed)


def _packed_pair(layers: nn.Sequential) -> nn.Module:
    match list(layers):
        case [nn.Conv2d() as conv, activation] if type(activation) in FUSED and _is_plain(conv):
            return PackedConvolution(conv, activation)
    return layers


def _packed(conv: nn.Conv2d) -> nn.Module:
    return PackedConvolution(conv) if _is_plain(conv) else conv


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether it is no subclass, which may pad on its own, and pads with zeros, as many as it says."""
    return type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
