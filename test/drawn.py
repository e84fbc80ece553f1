"""Tables and patches drawn by code, for tests that need no published data."""

from pathlib import Path

import numpy as np
from pandas import DataFrame
from PIL import Image

from amf.training.sources.base import Figure, table_of


def drawn_table(figures: int = 60, slides: int = 12, domains: int = 3, seed: int = 0) -> DataFrame:
    """A valid table: slide s belongs to domain s mod `domains`, every third figure or so is an AMF."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(figures):
        slide = int(generator.integers(slides))
        votes = "".join(str(vote) for vote in generator.integers(0, 2, 3))
        label = int(votes.count("1") >= 2)
        rows.append(
            Figure(
                image=f"drawn/{number:04}.png",
                dataset="drawn",
                slide=f"drawn/{slide}",
                label=label,
                domain=f"domain {slide % domains}",
                x=number,
                y=2 * number,
                votes=votes,
            )
        )
    return table_of(rows)


def draw_patches(table: DataFrame, root: Path, seed: int = 0) -> np.ndarray:
    """Write a noise patch for each row and return them all, uint8 (N, 128, 128, 3)."""
    patches = np.random.default_rng(seed).integers(0, 256, (len(table), 128, 128, 3), dtype=np.uint8)
    for image, patch in zip(table["image"], patches, strict=True):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(patch).save(root / image, compress_level=1)
    return patches
