"""What an epoch is judged by, and which epoch is the best."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from amf.evaluation.metrics import recalls


def measure(
    logits: NDArray[np.float64], label: NDArray[np.float32], target: NDArray[np.float32]
) -> dict[str, float]:
    """The monitor split's values: loss on the `target` trained for, the rest on the label, cut at logit 0.

    Parameters
    ----------
    logits, label, target : (N,); label 1 for AMF, both classes present; target in [0, 1].
    """
    loss = functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits), torch.from_numpy(target).double()
    )
    amf_recall, nmf_recall = recalls(label, logits >= 0)
    return {
        "loss": loss.item(),
        "auc": float(roc_auc_score(label, logits)),
        "nmf_recall": nmf_recall,
        "amf_recall": amf_recall,
        "balanced_accuracy": (nmf_recall + amf_recall) / 2,
    }


def best_so_far(history: Sequence[Mapping[str, Any]], monitor: str) -> int:
    """The epoch, from 0, with the lowest loss or the highest AUC, of equals the first; or the last of all."""
    if monitor == "last":
        return len(history) - 1
    values = [epoch[monitor] for epoch in history]
    return int(np.argmin(values) if monitor == "loss" else np.argmax(values))


def out_of_patience(history: Sequence[Mapping[str, Any]], monitor: str, patience: int) -> bool:
    """Whether the last `patience` epochs, or more, brought nothing better."""
    return bool(history) and len(history) - 1 - best_so_far(history, monitor) >= patience
