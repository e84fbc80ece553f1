"""The page on which an expert votes on figures: one HTML file that opens from disk."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from pandas import DataFrame
from PIL import Image

from amf.bulk.answers import Answers
from amf.bulk.read import is_stack
from amf.data.patches import file_of, page_name, read_patches
from amf.data.reviews import read_reviews
from amf.errors import DataError
from amf.files import write_text
from amf.model.preprocess import PATCH_PX

SURROUNDINGS_PX = 256
"""What is shown of a slide: the patch in the middle of twice its width."""

MAX_PICTURE_BYTES = 40_000
"""Of one figure, its map included, base64 counted."""


@dataclass(frozen=True)
class Page:
    """How a page reads.

    Attributes
    ----------
    title : its heading. source : what it calls the predictions, a file name.
    blind : the model's answer is hidden until the vote, and the order is random, by `seed`.
    disagreed : only figures on which experts disagree are shown.
    """

    title: str
    source: str
    blind: bool = False
    seed: int = 0
    disagreed: bool = False


def where_experts_disagree(figures: DataFrame, votes: Sequence[Path]) -> DataFrame:
    """The figures that one expert called atypical and another one normal.

    Raises
    ------
    DataError : a file is no review, or there is no such figure.
    """
    said = read_reviews(votes).figures
    split = said[said["votes"].str.contains("0") & said["votes"].str.contains("1")]
    found = figures.merge(split[["image", "page"]].astype({"page": "Int64"}), on=["image", "page"])
    if found.empty:
        raise DataError(
            f"{', '.join(map(str, votes))}: {len(split)} of {len(said)} figures have votes for both classes, "
            f"none of them among the {len(figures)} predictions: nothing to show"
        )
    return found


def read_pictures(figures: DataFrame, root: Path) -> list[NDArray[np.uint8]]:
    """What is shown of each figure, each file opened once: (S, S, 3) uint8 RGB.

    S is SURROUNDINGS_PX for places on slides, with the patch in the middle, and 128 for patches and pages.

    Raises
    ------
    DataError : names the first file that cannot be read, and how many figures are without a patch.
    """
    images = image_ids(figures)
    pictures: dict[int, NDArray[np.uint8]] = {}
    faults: list[str] = []
    files = pd.Series([file_of(image) for image in images])
    for file, numbers in files.groupby(files).groups.items():
        path, rows = root / str(file), list(numbers)
        seen = read_patches(path, [images[row] for row in rows], SURROUNDINGS_PX)
        for row, picture in zip(rows, seen, strict=True):
            if isinstance(picture, str):
                faults.append(f"{path}: {picture}")
            else:
                pictures[row] = picture
    if faults:
        raise DataError(
            f"{len(faults)} of {len(images)} figures have no patch below --root; the first is {faults[0]}"
        )
    return [pictures[row] for row in range(len(images))]


def image_ids(figures: DataFrame) -> list[str]:
    """The image id of each figure, by which its patch is found: a page of a stack has its own."""
    return [
        image if pd.isna(page) or not is_stack(Path(image)) else page_name(image, int(page))
        for image, page in zip(figures["image"], figures["page"], strict=True)
    ]


def patches_of(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """The middle of each picture, which is what the networks see: (N, 128, 128, 3) uint8."""
    starts = [(len(picture) - PATCH_PX) // 2 for picture in pictures]
    return np.stack(
        [
            picture[start : start + PATCH_PX, start : start + PATCH_PX]
            for start, picture in zip(starts, pictures, strict=True)
        ]
    )


def write_page(
    path: Path,
    page: Page,
    answers: Answers,
    pictures: Sequence[NDArray[np.uint8]],
    maps: Sequence[NDArray[np.uint8]] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    answers, pictures : of N figures. maps : (128, 128, 4) uint8 RGBA for each, to lay over it.

    Raises
    ------
    DataError : the page cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amf.evaluation", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    text = environment.get_template("review.html.jinja").render(
        page=page,
        figures=len(pictures),
        maps=maps is not None,
        surroundings=any(len(picture) > PATCH_PX for picture in pictures),
        data=Markup(_data(page, answers, pictures, maps)),  # our own JSON, in which < is spelt \u003c
    )
    write_text(path, text)


def _data(
    page: Page,
    answers: Answers,
    pictures: Sequence[NDArray[np.uint8]],
    maps: Sequence[NDArray[np.uint8]] | None,
) -> str:
    figures, order = answers.figures, np.arange(len(pictures))
    if page.blind:
        figures, order = figures.assign(vote=None), np.random.default_rng(page.seed).permutation(order)
    names = [*zip(image_ids(figures), figures["id"], strict=True)]
    content = {
        "id": hashlib.sha256(json.dumps([names, page.blind]).encode()).hexdigest()[:16],
        "threshold": answers.threshold,
        "time": answers.written,
        "blind": page.blind,
        "figures": list(_figures(figures.iloc[order], order, pictures, maps)),
    }
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _figures(
    figures: DataFrame,
    order: NDArray[np.int64],
    pictures: Sequence[NDArray[np.uint8]],
    maps: Sequence[NDArray[np.uint8]] | None,
) -> Iterator[dict[str, Any]]:
    """What the page's script reads of each figure, in the page's own order."""
    plain = figures.astype(object).where(figures.notna(), None)  # values as JSON has them
    for row, figure in zip(order, plain.to_dict("records"), strict=True):
        overlay = "" if maps is None else _webp(maps[row], MAX_PICTURE_BYTES // 4)
        yield {
            **{str(name): value for name, value in figure.items()},
            "picture": _webp(pictures[row], MAX_PICTURE_BYTES - len(overlay)),
            "map": overlay,
            "um": 32 * len(pictures[row]) // PATCH_PX,
        }


def _webp(pixels: NDArray[np.uint8], limit: int) -> str:
    """(H, W, 3 or 4) uint8 as WebP in base64, in the best of some qualities that stays below the limit."""
    text = ""
    for quality in (85, 70, 50, 25, 5):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format="WEBP", quality=quality, method=4)
        text = base64.b64encode(out.getvalue()).decode()
        if len(text) <= limit:
            break
    return text
