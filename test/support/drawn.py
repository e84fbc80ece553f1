"""Tables and patches drawn by code, for tests that need no published data."""

from pathlib import Path

import numpy as np
from pandas import DataFrame
from PIL import Image
from scipy.special import expit

from amf.data.packed import pack
from amf.data.sources.base import Figure, table_of
from amf.data.table import write_table


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


def draw_patch(path: Path, seed: int = 0, px: int = 128) -> np.ndarray:
    """Write a patch of noise and return it, uint8 (px, px, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (px, px, 3), dtype=np.uint8)
    _save(path, pixels)
    return pixels


def draw_patches(table: DataFrame, root: Path, seed: int = 0) -> np.ndarray:
    """Write a patch of noise for each row and return them all, uint8 (N, 128, 128, 3)."""
    patches = np.random.default_rng(seed).integers(0, 256, (len(table), 128, 128, 3), dtype=np.uint8)
    for image, patch in zip(table["image"], patches, strict=True):
        _save(root / image, patch)
    return patches


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def pack_noise(table: DataFrame, folder: Path) -> Path:
    """Write a table and noise for its patches as `amf data` does; returns the folder."""
    draw_patches(table, folder / "images")
    pack(table, folder / "images", folder / "patches.npy", workers=1)
    write_table(table, folder / "table.csv")
    return folder


def pack_figures(folder: Path, figures: int = 96, seed: int = 0) -> None:
    """Write table.csv and patches.npy as `amf data` does, of figures that can be told apart.

    A dark plate on pink; an AMF has a second, fainter one beside it. Slide by slide the stain differs.
    """
    generator = np.random.default_rng(seed)
    table = drawn_table(figures, seed=seed)
    y, x = np.mgrid[:128, :128] - 63.5
    for image, label, slide in table[["image", "label", "slide"]].itertuples(index=False):
        ink = _plate(x, y) + (0.7 * _plate(x - 18, y - 6) if label else 0)
        stain = np.array([0.15, 0.45, 0.2]) + 0.01 * int(slide.split("/")[1])
        density = 0.2 + ink[..., None] * stain * 3 + 0.05 * generator.random((128, 128, 3))
        _save(folder / "png" / image, (255 * np.exp(-density)).astype(np.uint8))
    pack(table, folder / "png", folder / "patches.npy", workers=1)
    write_table(table, folder / "table.csv")


def _plate(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.exp(-((x / 6) ** 2) - (y / 16) ** 2)


def synthetic(figures: int = 600, scale: float = 1.0, seed: int = 0) -> DataFrame:
    """Three domains; P(AMF | logit) = sigmoid(logit / scale), but for "b", shifted by 2 scale."""
    rng = np.random.default_rng(seed)
    domain = np.array(["a", "b", "c"])[np.arange(figures) % 3]
    true = rng.normal(-0.5, 2, figures)
    label = (rng.random(figures) < expit(true)).astype(int)
    return DataFrame(
        {
            "image": [f"{i}.png" for i in range(figures)],
            "domain": domain,
            "fold": domain,
            "slide": [f"slide {i // 3 % 40} of {name}" for i, name in enumerate(domain)],
            "label": label,
            "logit": scale * (true + 2 * (domain == "b")),
        }
    )
