"""Where the pixels of a training patch come from: symmetries, and every other movement in one resampling.

A patch can be wider than what a backbone looks at, so a turned, shifted or shrunk crop is read out of the
wide patch: its corners hold tissue, not a border. Only what lies outside the patch altogether is mirrored in.

Crops have as many px as the field of view has in the patch. The resize to the backbone's input comes after
all augmentation and is the one of amf.model.preprocess, antialiased as in inference.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amf.augmentation.randomness import chance, normal, uniform

ELASTIC_KNOT_PX = 32.0
"""Distance of the knots of a smooth field, px of the patch, or a little less to fill the view."""


@dataclass(frozen=True)
class Warp:
    """How far a crop may move, per patch and uniformly within the range; the defaults do nothing.

    Parameters
    ----------
    rotation_deg : angle in ±rotation_deg; 180 is any angle.
    zoom : magnification between 1/zoom and zoom, uniform in its logarithm; 1 to 2.
    shift_px : along each axis in ±shift_px, in px of the patch.
    shear_deg : in ±shear_deg.
    elastic_px : standard deviation, in px of the patch, of the displacement at the knots of a smooth field.
    """

    rotation_deg: float = 0.0
    zoom: float = 1.0
    shift_px: float = 0.0
    shear_deg: float = 0.0
    elastic_px: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.zoom <= 2:
            raise ValueError(f"zoom is {self.zoom}, expected 1 to 2")


def random_symmetry(images: Tensor, generator: torch.Generator) -> Tensor:
    """One of the square's eight symmetries for each (B, 3, S, S) patch, equally likely; values only move."""
    transposed, columns, rows = chance(generator, (3, len(images), 1, 1, 1), 0.5, images)
    images = torch.where(transposed, images.mT, images)
    images = torch.where(columns, images.flip(3), images)
    return torch.where(rows, images.flip(2), images)


def warped_crop(
    source: Tensor, field_of_view_px: int, warp: Warp, symmetries: bool, generator: torch.Generator
) -> Tensor:
    """Symmetry, rotation, shear, zoom, shift and elastic displacement in one bilinear resampling.

    Where a crop is shrunk, its source is smoothed first: detail finer than the crop's px would alias.

    Parameters
    ----------
    source : (B, 3, S, S) of any type.
    field_of_view_px : side of what is shown, in px of the patch and of the crop.
    symmetries : also draw one of the square's eight symmetries.

    Returns
    -------
    (B, 3, field_of_view_px, field_of_view_px) float32 with the values' range unchanged.
    """
    matrices, shifts = _draw_affine(source, warp, symmetries, generator)
    positions = _sample_positions(matrices, shifts, field_of_view_px)  # (B, fov · fov, 2), px from the centre
    if warp.elastic_px > 0:
        positions = positions + _draw_displacement(source, field_of_view_px, warp, generator)
    source = source.float()
    if warp.zoom > 1 or warp.shear_deg > 0:
        source = _smooth_before_shrinking(source, matrices)  # (B, 3, S − 2, S − 2)
    grid = positions * (2 / source.shape[-1])  # px to the ±1 of grid_sample
    grid = grid.view(-1, field_of_view_px, field_of_view_px, 2)  # (B, fov, fov, 2)
    return F.grid_sample(source, grid, "bilinear", "reflection", align_corners=False)


def _smooth_before_shrinking(source: Tensor, matrices: Tensor) -> Tensor:
    """3 x 3 weights for each patch, as wide as it is shrunk; (B, 3, S, S) -> (B, 3, S − 2, S − 2).

    An antialiased resize by the factor s reads with a triangle s times as wide, of variance s²/6 px² where
    bilinear sampling has 1/6. The weights [a, 1 − 2a, a] of variance 2a along each axis make up the
    difference. What is magnified stays as it is.
    """
    batch, channels, side, _ = source.shape
    squared_factors = matrices.square().sum((1, 2)) / 2  # (B,) s², its mean over the directions
    a = ((squared_factors - 1) / 12).clamp(0, 0.25)
    weights = torch.stack([a, 1 - 2 * a, a], dim=1)  # (B, 3)
    squares = (weights[:, :, None] * weights[:, None, :]).repeat_interleave(channels, dim=0)  # (B · 3, 3, 3)
    smooth = F.conv2d(source.reshape(1, -1, side, side), squares[:, None], groups=batch * channels)
    return smooth.view(batch, channels, side - 2, side - 2)


def _draw_affine(
    source: Tensor, warp: Warp, symmetries: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Matrices (B, 2, 2) and shifts (B, 2) in px: source position = matrix · crop position + shift."""
    batch = len(source)
    angle = torch.deg2rad(uniform(generator, (batch,), -warp.rotation_deg, warp.rotation_deg, source))
    mirror = torch.ones_like(angle)
    if symmetries:
        angle = angle + math.pi / 2 * uniform(generator, (batch,), 0.0, 4.0, source).floor()
        mirror = 1 - 2 * chance(generator, (batch,), 0.5, source).float()
    shear = torch.deg2rad(uniform(generator, (batch,), -warp.shear_deg, warp.shear_deg, source)).tan()
    zoom = uniform(generator, (batch,), -math.log(warp.zoom), math.log(warp.zoom), source).exp()
    shifts = uniform(generator, (batch, 2), -warp.shift_px, warp.shift_px, source)

    cos, sin = angle.cos(), angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=1).view(batch, 2, 2)
    slant = torch.stack([mirror, shear, torch.zeros_like(shear), torch.ones_like(shear)], dim=1)
    return rotation @ slant.view(batch, 2, 2) / zoom[:, None, None], shifts


def _sample_positions(matrices: Tensor, shifts: Tensor, field_of_view_px: int) -> Tensor:
    """(B, fov · fov, 2): where in the source, in px (x, y) from its centre, each crop pixel looks."""
    axis = torch.arange(field_of_view_px, device=matrices.device) + 0.5 - field_of_view_px / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    crop = torch.stack([x, y], dim=-1).view(1, -1, 2).expand(len(matrices), -1, -1)
    return torch.baddbmm(shifts[:, None], crop, matrices.mT)


def _draw_displacement(
    source: Tensor, field_of_view_px: int, warp: Warp, generator: torch.Generator
) -> Tensor:
    """(B, fov · fov, 2): a smooth random displacement in px of the source."""
    # a distance in px, not a share of the view: a smaller view must not fold the figure
    knots = math.ceil(field_of_view_px / ELASTIC_KNOT_PX) + 1
    at_knots = warp.elastic_px * normal(generator, (len(source), 2, knots, knots), source)
    size = (field_of_view_px, field_of_view_px)
    field = F.interpolate(at_knots, size, mode="bicubic", align_corners=True)  # (B, 2, fov, fov)
    return field.flatten(2).mT  # (B, fov · fov, 2)
