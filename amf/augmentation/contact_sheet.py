"""Patches in captioned rows, for a person to look at: examples of a table, or augmented patches."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from amf.augmentation.randomness import generator_at
from amf.augmentation.sets import AUGMENTATIONS, MIXUPS, augment, mix
from amf.errors import DataError, JobError
from amf.inference.picture import read_picture

GAP_PX = 4
CAPTION_PX = 18

Strip = tuple[str, NDArray[np.uint8]]
"""A caption and the (N, S, S, 3) patches below it."""


def contact_sheet(lines: Sequence[Sequence[Strip]], columns: int) -> Image.Image:
    """An RGB image of lines of strips side by side, each strip as wide as `columns` patches.

    The patches of all strips have one side S; a line has as many strips as the first.
    """
    cell = lines[0][0][1].shape[1] + GAP_PX
    strip_px, line_px = columns * cell + GAP_PX, cell + CAPTION_PX
    sheet = Image.new("RGB", (len(lines[0]) * strip_px, len(lines) * line_px + GAP_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for line, strips in enumerate(lines):
        top = line * line_px + GAP_PX
        for number, (caption, patches) in enumerate(strips):
            left = number * strip_px + GAP_PX
            draw.text((left, top), caption, fill="black", font=font)
            for column, patch in enumerate(patches):
                sheet.paste(Image.fromarray(patch), (left + column * cell, top + CAPTION_PX))
    return sheet


def read_examples(folder: Path, count: int) -> Tensor:
    """`count` PNG patches spread evenly over the folder and those below it, in the order of their paths.

    Returns
    -------
    (count, 3, S, S) uint8; fewer patches where the folder holds fewer.

    Raises
    ------
    DataError : there is no PNG file, or one is not square or not as large as the first.
    """
    paths = sorted(folder.rglob("*.png"))
    if not paths:
        raise DataError(f"{folder} holds no PNG file, expected patches to draw")
    chosen = [paths[i * len(paths) // count] for i in range(count)] if count < len(paths) else paths
    patches = [_read_patch(path) for path in chosen]
    side = patches[0].shape[0]
    for path, patch in zip(chosen, patches, strict=True):
        if patch.shape != (side, side, 3):
            raise DataError(
                f"{path} is {patch.shape[1]} x {patch.shape[0]} px, "
                f"expected {side} x {side} as {chosen[0].name}"
            )
    return torch.from_numpy(np.stack(patches)).permute(0, 3, 1, 2)  # (count, S, S, 3) -> (count, 3, S, S)


def _read_patch(path: Path) -> NDArray[np.uint8]:
    try:
        return read_picture(path)
    except JobError as error:
        raise DataError(str(error)) from error


def draw_augmentations(patches: Tensor, field_of_view_px: int, seed: int = 0) -> Image.Image:
    """One row for each augmentation and each MixUp variant, one column for each patch.

    Parameters
    ----------
    patches : (N, 3, S, S) uint8.
    field_of_view_px : side of the centre that is shown of each.
    seed : each row has its own generator made from it, so a row does not change when another set is added.
    """
    lines = [[(caption, _to_uint8(images))] for caption, images in _rows(patches, field_of_view_px, seed)]
    return contact_sheet(lines, len(patches))


def _rows(patches: Tensor, field_of_view_px: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Caption and (N, 3, fov, fov) float images of each row."""
    for name, augmentation in AUGMENTATIONS.items():
        generator = generator_at(seed, *name.encode())
        yield f"{name}: {augmentation.summary}", augment(augmentation, patches, generator, field_of_view_px)
    plain = augment(AUGMENTATIONS["none"], patches, generator_at(seed), field_of_view_px)
    domains = torch.arange(len(patches)) % 2  # stand-ins: neighbours stem from different domains
    for name, mixup in MIXUPS.items():
        mixed = mix(plain, torch.zeros(len(patches)), mixup, generator_at(seed, *name.encode()), domains)
        shares = " ".join(f"{value:.2f}" for value in mixed.lambdas.tolist())
        yield f"MixUp {name}: Beta({mixup.alpha}, {mixup.alpha}), own shares {shares}", mixed.images


def _to_uint8(images: Tensor) -> NDArray[np.uint8]:
    """(N, 3, H, W) float in [0, 1] -> (N, H, W, 3) uint8."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
