"""Patches → logits → confidence and class: batches, views, members, calibration."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf.errors import BundleError
from amf.inference.ready import make_ready
from amf.model.bundle import Bundle
from amf.model.classifier import CLASSES, Classifier
from amf.model.device import DTYPES, choose_device, compute_dtype, keep_freed_memory, use_available_cores
from amf.model.preprocess import ImageSpec, to_input
from amf.model.spec import MemberSpec
from amf.model.views import views

MAX_BATCH = 64
"""Images in one pass of a network, at most, over pages and views: a page's views stay together.

More do not make a CPU quicker: EfficientNet-Lite0 takes 1.7 times longer an image at 448 of 96 px than at 64.
"""

MAX_PIXELS = 64 * 256 * 256
"""Pixels in one pass, over pages and views, so that memory has a bound; a single page may have more."""


@dataclass(frozen=True)
class Prediction:
    """One figure's answer: its class, and confidence = P(atypical), whichever class wins."""

    label: str
    confidence: float


class Predictor:
    """A loaded bundle on a device, ready to score any number of batches.

    Parameters
    ----------
    bundle : verified bundle, its members on the CPU.
    device : "auto" takes CUDA where there is one; "cpu" and "cuda" take that device or fail.

    Raises
    ------
    DeviceError : CUDA was asked for, and no CUDA device is available.
    """

    def __init__(self, bundle: Bundle, device: str = "auto") -> None:
        self.spec = bundle.spec
        self.device = choose_device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
            use_available_cores()
        self._members: list[tuple[MemberSpec, Classifier, torch.dtype]] = []
        for spec, model in zip(bundle.spec.members, bundle.members, strict=True):
            dtype = compute_dtype(DTYPES[spec.dtype], self.device)
            try:
                if (why := make_ready(model, self.device, dtype)) is not None:
                    print(f"{spec.weights}: int8 weights are computed in {dtype}: {why}", flush=True)
            except (RuntimeError, MemoryError) as error:
                fault = f"cannot be put on {self.device}: {str(error) or type(error).__name__}"
                raise BundleError(f"{spec.weights}: its network {fault}") from error
            self._members.append((spec, model, dtype))

    def logits(self, patches: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Score patches, in one batch unless many or memory is short; members and views averaged.

        Parameters
        ----------
        patches : (N, 128, 128, 3) uint8 RGB.

        Returns
        -------
        (N,) float64 logits, before temperature and bias.

        Raises
        ------
        BundleError : a network cannot score a page, for lack of memory say, or gives NaN or infinity.
        """
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(patches)).to(self.device)  # (N, 128, 128, 3)
            total = torch.zeros(len(patches), dtype=torch.float64)
            for member in self._members:
                total += self._member_logits(batch, *member)
        result = (total / len(self._members)).numpy()
        finite = np.isfinite(result)
        if not finite.all():
            raise BundleError(
                f"bundle {self.spec.name} gave page {int(np.argmin(finite)) + 1} the logit "
                f"{result[~finite][0]}, expected a finite number"
            )
        return result

    def predict(self, patches: NDArray[np.uint8]) -> list[Prediction]:
        """Score (N, 128, 128, 3) uint8 patches: confidence and class of each, in order."""
        return [self.decide(logit) for logit in self.logits(patches).tolist()]

    def decide(self, logit: float) -> Prediction:
        """Confidence = sigmoid(logit / temperature + bias) of a logit, and its class by the threshold."""
        confidence = sigmoid(logit / self.spec.temperature + self.spec.bias)
        return Prediction(CLASSES[int(confidence >= self.spec.threshold)], confidence)

    def _member_logits(
        self, batch: Tensor, spec: MemberSpec, model: Classifier, dtype: torch.dtype
    ) -> Tensor:
        """All of (N, 128, 128, 3) at once, up to a bound; where memory runs out, in halves of halves."""
        size = min(len(batch), pages_a_pass(spec.image, spec.views))
        while True:
            try:
                return score(model, batch.split(size), spec.image, spec.views, dtype)  # (N,)
            except Exception as error:
                # On the CPU short memory is a plain RuntimeError, of one wording for each library that asked.
                if size > 1 and isinstance(error, RuntimeError | MemoryError):
                    size = (size + 1) // 2
                    continue
                side = spec.image.input_px
                raise BundleError(
                    f"{spec.weights}: its network, a backbone {spec.backbone!r}, cannot score an image of "
                    f"{side} x {side} px: {str(error) or type(error).__name__}"
                ) from error


def pages_a_pass(image: ImageSpec, view_count: int) -> int:
    """How many pages to give a network at once."""
    return max(1, min(MAX_BATCH, MAX_PIXELS // image.input_px**2) // view_count)


@torch.inference_mode()
def score(
    model: Classifier, batches: Iterable[Tensor], image: ImageSpec, view_count: int, dtype: torch.dtype
) -> Tensor:
    """Logits by one network, mean over views: (N,) float64 on the CPU.

    `batches` are (B, 128, 128, 3) uint8 patches on any device; the network scores them where it is.
    """
    device = next(model.parameters()).device
    parts = []
    for batch in batches:
        x = to_input(batch.to(device), image).to(dtype)  # (B, 3, S, S)
        seen = torch.cat(list(views(x, view_count)))  # (views B, 3, S, S): one pass costs less than eight
        seen = seen.contiguous(memory_format=torch.channels_last)  # what convolutions are fastest on
        logits = model(seen)[0].double().cpu()  # (views B,)
        parts.append(logits.view(view_count, len(batch)).mean(0))  # (B,)
    return torch.cat(parts)


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)), without overflow at either end."""
    small = math.exp(-abs(z))
    return 1 / (1 + small) if z >= 0 else small / (1 + small)
