"""Linear layers as a CPU computes them fastest: weights in the order its kernels read, or int8 weights."""

import warnings

import torch
from torch import Tensor, nn

from amf.model.int8 import Int8Linear, replace

ROWS = 522
"""Rows of activations that the packed order is chosen for: two images of 16 x 16 patches and five tokens."""

ZERO = 128
"""The unsigned byte that stands for an activation of 0: the kernel for signed ones is a slow one."""


class PackedInt8Linear(nn.Module):
    """An int8 layer on the CPU: activations are quantised row by row, so that no image depends on another.

    A row (token) of activations is divided by its own largest magnitude / 127.
    """

    def __init__(self, layer: Int8Linear) -> None:
        super().__init__()
        self._weight = torch.ops.onednn.qlinear_prepack(layer.weight, [ROWS, layer.weight.shape[1]])
        self._scale = layer.weight_scale.detach().float()
        self._zero = torch.zeros(len(self._scale), dtype=torch.int32)
        self._bias = layer.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) → (..., outputs), both bfloat16."""
        rows = x.float()
        step = rows.abs().amax(-1, keepdim=True).mul_(1 / 127).clamp_(1e-20)  # (..., 1)
        quantised = _quantised(rows.mul_(step.reciprocal()))
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            quantised, 1.0, ZERO, self._weight, self._scale, self._zero, None, 1.0, 0, x.dtype, "none", [], ""
        )
        return y.mul_(step.to(x.dtype)).add_(self._bias)


def _quantised(x: Tensor) -> Tensor:
    """Float32 values of -127 to 127 as bytes around ZERO, without the type of a quantised tensor."""
    # Rounding and casting in steps of their own would take a twentieth of a block's time.
    quantised = torch.quantize_per_tensor(x, 1.0, ZERO, torch.quint8)
    return torch.empty(0, dtype=torch.uint8).set_(quantised.untyped_storage(), 0, x.shape, x.stride())


class PackedLinear(nn.Module):
    """A layer on the CPU, its weight in the order that the kernel reads.

    In bfloat16 the plain one is reordered at every call; in float32 it goes another way, through MKL, which
    on an AMD CPU with AVX-512 takes 2.4 times as long.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self._bias = None if layer.bias is None else layer.bias.detach().clone()

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) → (..., outputs), both of the layer's type."""
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y


def pack_linears(module: nn.Module) -> None:
    """Replace the linear layers of a module of bfloat16 or float32 weights, in place."""
    if has_kernel("_linear_pointwise"):
        replace(module, nn.Linear, PackedLinear)


def pack_int8(module: nn.Module) -> None:
    """Replace the int8 layers of a module that will compute in bfloat16, in place."""
    replace(module, Int8Linear, PackedInt8Linear)


def has_kernel(name: str) -> bool:
    """Whether this torch has one of oneDNN's operators, which are private to it."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, name)


def reason_against_int8() -> str | None:
    """Why this CPU does not compute int8 weights; None where it gives a layer's known answer."""
    if not torch.cpu.get_capabilities().get("avx512_bf16", False):
        return "this CPU lacks AVX-512 BF16"
    layer = Int8Linear(32, 16)
    layer.weight.data = (
        torch.arange(512, dtype=torch.int64).view(16, 32).remainder(255).sub(127).to(torch.int8)
    )
    x = torch.arange(64, dtype=torch.float32).view(2, 32).sub(31).bfloat16()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantize_per_tensor is deprecated, and says so once
            given = PackedInt8Linear(layer)(x)
    except (RuntimeError, AttributeError, TypeError) as error:
        return f"torch {torch.__version__} does not compute them: {str(error).splitlines()[0]}"
    expected = layer(x.float())
    if (given.float() - expected).abs().max() > 0.02 * expected.abs().max():
        return f"torch {torch.__version__} computes them wrongly on this CPU"
    return None
