"""The model for other programs: what `amf.load` returns. Patches in any form in, arrays of answers out."""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amf.inference.picture import check_patch_size, read_picture
from amf.inference.predict import Predictor
from amf.inference.stack import SUFFIXES, page_pixels, read_stack
from amf.model import bundle
from amf.model.preprocess import PATCH_PX
from amf.model.shipped import shipped_bundle

Patches = NDArray[np.uint8] | str | PathLike[str] | Image.Image
"""One patch or several: (128, 128, 3) or (N, 128, 128, 3) uint8 RGB, a file's path, or a PIL image."""


@dataclass(frozen=True)
class Answers:
    """The answers to N patches, in the order in which they were given.

    Attributes
    ----------
    labels : (N,) text, "normal" or "atypical".
    confidences : (N,) float64, P(atypical), whichever label wins.
    logits : (N,) float64, mean over the bundle's networks, before calibration.
    """

    labels: NDArray[np.str_]
    confidences: NDArray[np.float64]
    logits: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.labels)


class Model:
    """A loaded bundle, ready to score; made by `amf.load`. Several threads may use it at a time.

    Attributes
    ----------
    name : the bundle's.
    threshold : a figure is atypical from this confidence on.
    device : "cpu" or "cuda:0", say.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self.name = predictor.spec.name
        self.threshold = predictor.spec.threshold
        self.device = str(predictor.device)

    def predict(self, patches: Patches | Iterable[Patches]) -> Answers:
        """Score patches of 128 x 128 px at 0.25 µm/px, each centred on a mitotic figure.

        Parameters
        ----------
        patches : an array, a path, a PIL image, or any mixture of them in an iterable. A path is a picture of
            one patch (PNG, JPEG, …) or a stack (TIFF, MHA), of which every page is a patch.

        Raises
        ------
        AmfError : a file or an image is no patch; one sentence names it.
        TypeError, ValueError : an array has another type or shape than those above.
        """
        single = isinstance(patches, np.ndarray | str | PathLike | Image.Image)
        given: Iterable[Any] = [patches] if single else patches  # type: ignore[assignment]
        parts = [_pages(part, f"patch {number}") for number, part in enumerate(given, start=1)]
        pages = np.concatenate([np.empty((0, PATCH_PX, PATCH_PX, 3), np.uint8), *parts])  # (N, 128, 128, 3)
        logits = self._predictor.logits(pages) if len(pages) else np.empty(0)
        decided = [self._predictor.decide(logit) for logit in logits.tolist()]
        return Answers(
            np.array([answer.label for answer in decided], dtype="<U8"),
            np.array([answer.confidence for answer in decided], dtype=np.float64),
            logits,
        )


def open_model(folder: str | PathLike[str] | None, device: str) -> Model:
    """See `amf.load`."""
    return Model(Predictor(bundle.load(shipped_bundle() if folder is None else Path(folder)), device))


def _pages(given: Patches, where: str) -> NDArray[np.uint8]:
    """(N, 128, 128, 3) uint8 of one part of what was given; `where` names it where it has no name."""
    if isinstance(given, Image.Image):
        return page_pixels(given, where)[None]
    if isinstance(given, str | PathLike):
        path = Path(given)
        if path.suffix.lower() in SUFFIXES:
            return read_stack(path)
        pixels = read_picture(path)
        check_patch_size(pixels.shape[1], pixels.shape[0], str(path))
        return pixels[None]
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8:
        found = f"an array of {given.dtype}" if isinstance(given, np.ndarray) else type(given).__name__
        raise TypeError(f"{where} is {found}, expected a uint8 array, a path or a PIL image")
    if given.shape[-3:] != (PATCH_PX, PATCH_PX, 3) or given.ndim not in (3, 4):
        expected = f"({PATCH_PX}, {PATCH_PX}, 3) or (N, {PATCH_PX}, {PATCH_PX}, 3)"
        raise ValueError(f"{where} has the shape {given.shape}, expected {expected}")
    return given[None] if given.ndim == 3 else given
