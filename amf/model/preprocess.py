"""Patch → network input: centre crop, resize, normalise.

Training goes the same way: an augmentation gives a crop as large as the field of view, in px of the patch,
and `resize` and `normalise` make the input of it. One that moves nothing takes `centre_crop` itself.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

PATCH_PX = 128
"""Side of a published patch, px, at about 0.25 µm/px."""

MIN_STD = 0.001
"""A quarter of one grey level in 256: whoever divides by less has mistaken the unit."""


@dataclass(frozen=True)
class ImageSpec:
    """How a patch becomes the input of one network; a bundle stores it beside the weights.

    Attributes
    ----------
    field_of_view_px : side of the centre crop, px of the patch.
    input_px : side of the network's input, px; the crop is resized to it.
    interpolation : "bilinear" or "bicubic", antialiased when it shrinks.
    mean, std : per channel (R, G, B), of intensities in [0, 1]; a std is MIN_STD to 1 / MIN_STD.
    """

    field_of_view_px: int
    input_px: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 1 <= self.field_of_view_px <= PATCH_PX:
            raise ValueError(f"field_of_view_px is {self.field_of_view_px}, expected 1 to {PATCH_PX}")
        if not 1 <= self.input_px <= 1024:
            raise ValueError(f"input_px is {self.input_px}, expected 1 to 1024")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolation is {self.interpolation!r}, expected 'bilinear' or 'bicubic'")
        if len(self.mean) != 3 or not all(0 <= value <= 1 for value in self.mean):
            raise ValueError(f"mean is {self.mean}, expected three numbers from 0 to 1")
        if len(self.std) != 3 or not all(MIN_STD <= value <= 1 / MIN_STD for value in self.std):
            raise ValueError(f"std is {self.std}, expected three numbers from {MIN_STD} to {1 / MIN_STD:g}")


def to_input(patches: Tensor, spec: ImageSpec) -> Tensor:
    """Crop, resize and normalise a batch.

    Parameters
    ----------
    patches : (N, H, W, 3) uint8 RGB, H and W at least `spec.field_of_view_px`.

    Returns
    -------
    (N, 3, input_px, input_px) float32, on the device of `patches`.
    """
    crops = centre_crop(patches.permute(0, 3, 1, 2), spec.field_of_view_px)  # (N, 3, side, side)
    # Plane by plane: resizing is a third faster so than pixel by pixel.
    x = crops.contiguous().float().div_(255)
    return normalise(resize(x, spec), spec)  # (N, 3, input_px, input_px)


def centre_crop(images: Tensor, side_px: int) -> Tensor:
    """(..., H, W) of any type → the middle (..., side_px, side_px), a view.

    Raises
    ------
    ValueError : the images are smaller.
    """
    height, width = images.shape[-2:]
    if not 0 < side_px <= min(height, width):
        raise ValueError(f"a field of view of {side_px} px does not fit into images of {height} x {width} px")
    top, left = (height - side_px) // 2, (width - side_px) // 2
    return images[..., top : top + side_px, left : left + side_px]


def resize(x: Tensor, spec: ImageSpec) -> Tensor:
    """Resize (N, 3, S, S) intensities in [0, 1] to the spec's input size; bicubic overshoot is cut off.

    As two products with a matrix, along the rows and along the columns: on a CPU that takes a third of the
    time of `functional.interpolate`, from which the matrix is taken.
    """
    side = x.shape[-1]
    if side == spec.input_px:
        return x
    weights = _resizing(side, spec.input_px, spec.interpolation).to(x.device)  # (input_px, S)
    return (weights @ (x @ weights.T)).clamp_(0, 1)  # (N, 3, input_px, input_px)


@lru_cache
def _resizing(side: int, input_px: int, interpolation: str) -> Tensor:
    """(input_px, side) float32: each px of a resized line from those of the line."""
    with torch.inference_mode(False):  # gradients flow through it, too
        lines = torch.eye(side, device="cpu")[None, None]
        resized = functional.interpolate(lines, (input_px, side), mode=interpolation, antialias=True)
    return resized[0, 0]


def normalise(x: Tensor, spec: ImageSpec) -> Tensor:
    """Subtract the mean and divide by the standard deviation of each channel of (N, 3, H, W)."""
    mean = torch.tensor(spec.mean, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(spec.std, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    return (x - mean) / std
