"""Depthwise convolutions with a quick way to their gradients on a CPU.

oneDNN has no fast backward pass for stride 2 in bfloat16, nor for the weights of 5 x 5 filters in any type:
these took most of an EfficientNet's training step. With the former in float32, and the latter put together
from four of 3 x 3, a step of EfficientNet-Lite0 at 96 px takes 1.8 times less CPU time.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Depthwise(torch.autograd.Function):
    """Forward in the type that the caller's autocast chooses, backward in it where oneDNN is quick."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding
        return functional.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.geometry
        towards_x = towards_weight = None
        if ctx.needs_input_grad[0]:
            towards_x = _x_gradient(gradients[0], x, weight, stride, padding)
        if ctx.needs_input_grad[1]:
            towards_weight = _weight_gradient(gradients[0], x, weight, stride, padding)
        return towards_x, towards_weight, None, None


def _x_gradient(towards: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """(B, C, H, W), computed in float32 at stride 2."""
    wanted = (True, False)
    if stride == 1:
        return _gradients(towards, x, weight, stride, padding, wanted)[0]
    shape_alone = torch.empty_like(x, dtype=torch.float32)
    exact = _gradients(towards.float(), shape_alone, weight.float(), stride, padding, wanted)[0]
    return exact.to(x.dtype)


def _weight_gradient(towards: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """(C, 1, k, k); of a 5 x 5 filter from its four 3 x 3 corners, which share the middle row and column."""
    if weight.shape[2] != 5:
        return _gradients(towards, x, weight, stride, padding, (False, True))[1]
    x = functional.pad(x, [padding] * 4)
    height, width = ((side - 1) * stride + 3 for side in towards.shape[2:])  # what 3 x 3 filters read
    gradient = torch.empty_like(weight)
    for top in (0, 2):
        for left in (0, 2):
            part = x[:, :, top : top + height, left : left + width]
            part = part.contiguous(memory_format=torch.channels_last)
            corner = weight[:, :, top : top + 3, left : left + 3].contiguous()
            gradient[:, :, top : top + 3, left : left + 3] = _gradients(
                towards, part, corner, stride, 0, (False, True)
            )[1]
    return gradient


def _gradients(
    towards: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, ...]:
    """PyTorch's own gradients of x and weight, those that are wanted."""
    geometry = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight))
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        towards, x, weight, None, *geometry, [*wanted, False]
    )
    return found


def quicken(module: nn.Module) -> None:
    """Give depthwise convolutions the quicker backward pass, in place; other kinds are left alone."""
    for conv in module.modules():
        if type(conv) is nn.Conv2d and _is_plain_depthwise(conv):  # a subclass may pad on its own
            conv.forward = partial(_forward, conv)  # type: ignore[method-assign]


def _is_plain_depthwise(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == conv.in_channels == conv.out_channels > 1
        and conv.bias is None
        and conv.padding_mode == "zeros"
        and conv.dilation == (1, 1)
        and all(len({*pair}) == 1 for pair in (conv.kernel_size, conv.stride, conv.padding))
        and not isinstance(conv.padding, str)
    )


def _forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    stride, padding = conv.stride[0], conv.padding[0]
    output: Tensor = _Depthwise.apply(x, conv.weight, stride, padding)  # type: ignore[no-untyped-call]
    return output
