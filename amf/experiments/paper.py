"""The paper's columns for a set of predictions, and what it reports: the only copy of its figures."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, roc_auc_score

from amf.evaluation.metrics import recalls

THRESHOLD = 0.5

# Section "Cross-Domain Performance Evaluation": H-optimus-0 + LoRA, 10 domains, threshold 0.5.
LODO = {"BA": (0.851, 0.037), "AMF recall": (0.841, 0.088), "NMF recall": (0.872, 0.038)}

PAPER_METRICS = ("BA", "F1", "AUC", "AMF recall", "NMF recall")

# Table 1: EfficientNetV2-S on MIDOG++, 5 folds; (mean, std). The baseline's means are absolute, the others'
# are differences to it; every std is the configuration's own over the folds.
TABLE_1: dict[str, tuple[tuple[float, float], ...]] = {
    "baseline": ((0.602, 0.018), (0.303, 0.040), (0.652, 0.014), (0.441, 0.073), (0.763, 0.038)),
    "flip_rotate": ((0.048, 0.011), (0.057, 0.038), (0.050, 0.014), (0.104, 0.032), (-0.007, 0.035)),
    "color": ((0.054, 0.027), (0.069, 0.052), (0.065, 0.033), (0.080, 0.059), (0.028, 0.025)),
    "blur_noise": ((0.001, 0.014), (0.006, 0.037), (-0.006, 0.017), (-0.021, 0.013), (0.024, 0.030)),
    "distortion": ((0.030, 0.026), (0.043, 0.048), (0.026, 0.035), (0.059, 0.094), (0.000, 0.096)),
    "cutout": ((0.019, 0.015), (0.031, 0.037), (0.030, 0.020), (-0.002, 0.023), (0.040, 0.052)),
    "rass": ((0.020, 0.020), (0.031, 0.033), (0.017, 0.014), (0.002, 0.044), (0.038, 0.031)),
    "basic": ((0.023, 0.020), (0.021, 0.039), (0.029, 0.031), (0.148, 0.057), (-0.102, 0.072)),
    "medium": ((0.057, 0.024), (0.056, 0.044), (0.067, 0.037), (0.180, 0.054), (-0.067, 0.053)),
    "heavy": ((0.024, 0.040), (0.025, 0.060), (0.005, 0.057), (0.092, 0.056), (-0.044, 0.025)),
    "mixup_standard": ((0.020, 0.017), (0.020, 0.029), (0.007, 0.017), (0.076, 0.011), (-0.036, 0.023)),
    "mixup_strong": ((0.015, 0.024), (0.011, 0.047), (0.003, 0.022), (0.124, 0.050), (-0.095, 0.006)),
    "mixup_domain_aware": ((0.001, 0.008), (0.006, 0.036), (0.009, 0.023), (-0.024, 0.039), (0.026, 0.026)),
}

# Section "Dataset and Data Splitting".
DATA = {"figures": 11939, "AMF": 1771, "slides": 503, "domains": 10}

# Section "Cross-Domain Performance Evaluation", the domains that it names, at 0.5; and its two ranges of BA.
LODO_DOMAINS: dict[str, dict[str, float]] = {
    "canine soft tissue sarcoma, 3D Histech, VMU Vienna, Canine": {
        "BA": 0.904, "AMF recall": 0.929, "NMF recall": 0.880,
    },
    "canine lymphoma, 3D Histech, VMU Vienna, Canine": {"BA": 0.787, "AMF recall": 0.634},
    "human breast cancer, Hamamatsu XR, UMC Utrecht, Human": {"BA": 0.860},
    "human breast cancer, Hamamatsu S360, UMC Utrecht, Human": {"BA": 0.837},
}  # fmt: skip
LODO_SPECIES = {"Human": (0.837, 0.874), "Canine": (0.787, 0.904)}

# The paper's container on the challenge's hidden final test, as the organisers scored it.
CHALLENGE = {"BA": 0.8705, "AUC": 0.2100, "AMF recall": 0.789, "NMF recall": 0.951}


def paper_metrics(
    confidences: ArrayLike, labels: ArrayLike, threshold: float = THRESHOLD
) -> dict[str, float]:
    """PAPER_METRICS as in the paper's Table 1; NaN where a class it needs is absent.

    Parameters
    ----------
    confidences : (N,) P(atypical); labels : (N,) 0 or 1 (AMF).
    threshold : a figure is called atypical from here on.
    """
    p, y = np.asarray(confidences, np.float64), np.asarray(labels, np.int64)
    called = (p >= threshold).astype(np.int64)
    amf, nmf = recalls(y, called)
    both = 0 < y.sum() < len(y)
    return {
        "BA": (amf + nmf) / 2,
        "F1": float(f1_score(y, called, zero_division=0)) if y.any() else np.nan,
        "AUC": float(roc_auc_score(y, p)) if both else np.nan,
        "AMF recall": amf,
        "NMF recall": nmf,
    }
