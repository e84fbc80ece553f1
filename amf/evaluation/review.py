"""The page on which an expert looks at the answers and corrects them: one HTML file that opens from disk."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray
from pandas import DataFrame
from PIL import Image

from amf.bulk.geojson import CLASSIFICATION, IMAGE, MEASUREMENT
from amf.bulk.read import is_stack
from amf.data.patches import file_of, page_name, read_patches
from amf.errors import DataError
from amf.evaluation.predictions import load_table
from amf.files import write_text

MAX_PICTURE_BYTES = 25_000
"""Of one figure, its map included."""


def read_answers(path: Path) -> DataFrame:
    """Read what `amf predict` or `amf slide` wrote.

    Returns
    -------
    One row a figure: image (str), page (Int64), slide (str or None), x and y (float or NaN), predicted
    (int64, 1 = AMF), confidence (float64).

    Raises
    ------
    DataError : not such a file, or no figure in it.
    """
    if path.suffix in (".geojson", ".json") and _is_geojson(path):
        table = _read_geojson(path)
    else:
        table = load_table(path, required=["image", "class", "confidence"])
        if not table["class"].isin(["normal", "atypical"]).all():
            raise DataError(f"{path} has other classes than 'normal' and 'atypical'")
        table["predicted"] = (table["class"] == "atypical").astype("int64")
    if not len(table):
        raise DataError(f"{path} holds no figures, expected some to look at")
    if not table["confidence"].between(0, 1).all():
        raise DataError(f"{path} has a confidence that is no number from 0 to 1")
    for column in ("slide", "x", "y"):
        if column not in table:
            table[column] = None
    return table[["image", "page", "slide", "x", "y", "predicted", "confidence"]]


def _is_geojson(path: Path) -> bool:
    with path.open("rb") as file:
        return b"FeatureCollection" in file.read(4096)


def _read_geojson(path: Path) -> DataFrame:
    names = {classification["name"]: label for label, classification in CLASSIFICATION.items()}
    rows = []
    try:
        for feature in json.loads(path.read_text(encoding="utf-8"))["features"]:
            properties = feature.get("properties") or {}
            measurements = properties.get("measurements") or {}
            if isinstance(measurements, list):
                measurements = {entry["name"]: entry["value"] for entry in measurements}
            image = (properties.get("metadata") or {}).get(IMAGE)
            if image is None or MEASUREMENT not in measurements:
                continue  # never scored, as what lies outside the slide
            x, y = image.rpartition("#x=")[2].split(",")[:2]
            label = names.get(properties["classification"]["name"])
            rows.append((image, pd.NA, file_of(image), float(x), float(y[2:]), int(label == "atypical"),
                         float(measurements[MEASUREMENT])))  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is no GeoJSON that `amf slide` wrote: {error!r}") from error
    columns = ["image", "page", "slide", "x", "y", "predicted", "confidence"]
    table = DataFrame(rows, columns=columns).astype({"page": "Int64"})
    return table.drop_duplicates("image", ignore_index=True)  # two features at one place are one figure


def image_ids(answers: DataFrame) -> list[str]:
    """The image id of each figure, by which its patch is found: a page of a stack has its own."""
    return [
        image if pd.isna(page) or not is_stack(Path(image)) else page_name(image, int(page))
        for image, page in zip(answers["image"], answers["page"], strict=True)
    ]


def read_pictures(answers: DataFrame, root: Path) -> NDArray[np.uint8]:
    """The patches of all figures, each file opened once: (N, 128, 128, 3) uint8.

    Raises
    ------
    DataError : names the first file that cannot be read, and how many figures are without a patch.
    """
    images = image_ids(answers)
    pictures = np.empty((len(images), 128, 128, 3), dtype=np.uint8)
    faults: list[str] = []
    for file, numbers in pd.Series(range(len(images))).groupby([file_of(image) for image in images]):
        rows = numbers.tolist()
        path = root / str(file)
        for row, patch in zip(rows, read_patches(path, [images[row] for row in rows]), strict=True):
            if isinstance(patch, str):
                faults.append(f"{path}: {patch}")
            else:
                pictures[row] = patch
    if faults:
        raise DataError(
            f"{len(faults)} of {len(images)} figures have no patch below --root; the first is {faults[0]}"
        )
    return pictures


def write_page(
    path: Path,
    answers: DataFrame,
    pictures: NDArray[np.uint8],
    source: str,
    title: str,
    maps: Sequence[NDArray[np.uint8]] | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    answers : N rows as `read_answers` gives them. pictures : (N, 128, 128, 3) uint8.
    source : what the page calls the predictions, a file name.
    maps : (128, 128, 4) uint8 RGBA for each figure, to lay over it.

    Raises
    ------
    DataError : the page cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amf.evaluation", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    text = environment.get_template("review.html.jinja").render(
        title=title,
        source=source,
        figures=len(answers),
        maps=maps is not None,
        data=Markup(_data(answers, pictures, maps)),  # our own JSON, in which < is spelt \u003c
    )
    write_text(path, text)


def _data(answers: DataFrame, pictures: NDArray[np.uint8], maps: Sequence[NDArray[np.uint8]] | None) -> str:
    slides = list(dict.fromkeys(answers["slide"].astype(object).where(answers["slide"].notna(), None)))
    identity = hashlib.sha256("\0".join(image_ids(answers)).encode()).hexdigest()[:16]
    content = {
        "id": identity,
        "threshold": threshold_of(answers),
        "slides": slides,
        "figures": list(_rows(answers, slides, pictures, maps)),
    }
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _rows(
    answers: DataFrame,
    slides: list[str | None],
    pictures: NDArray[np.uint8],
    maps: Sequence[NDArray[np.uint8]] | None,
) -> Iterator[list[Any]]:
    """What the page's script reads: image, page, slide, x, y, predicted, P(atypical), picture, map."""
    number_of = {slide: number for number, slide in enumerate(slides)}
    plain = answers.astype(object).where(answers.notna(), None)  # values as JSON has them
    for row, figure in enumerate(plain.to_dict("records")):
        overlay = None if maps is None else _webp(maps[row], MAX_PICTURE_BYTES // 3)
        picture = _webp(pictures[row], MAX_PICTURE_BYTES - len(overlay or b""))
        yield [
            figure["image"],
            figure["page"],
            number_of[figure["slide"]],
            figure["x"],
            figure["y"],
            figure["predicted"],
            figure["confidence"],
            base64.b64encode(picture).decode(),
            None if overlay is None else base64.b64encode(overlay).decode(),
        ]


def threshold_of(answers: DataFrame) -> float:
    """A threshold that divides the classes as the predictions do; 0.5 where none does."""
    atypical = answers["predicted"] == 1
    lowest = answers.loc[atypical, "confidence"].min() if atypical.any() else 1.0
    highest = answers.loc[~atypical, "confidence"].max() if not atypical.all() else 0.0
    return float((lowest + highest) / 2) if highest < lowest else 0.5


def _webp(pixels: NDArray[np.uint8], limit: int) -> bytes:
    """Encode (H, W, 3 or 4), base64 counted, in the best of some qualities that stays below the limit."""
    data = b""
    for quality in (85, 70, 50, 25, 5):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, format="WEBP", quality=quality, method=4)
        data = out.getvalue()
        if len(data) * 4 / 3 <= limit:
            break
    return data
