"""How far a job's arithmetic moves P(atypical): half precision in one batch against float32, page by page.

    python -m bench.parity BUNDLE PATCHES [--limit N]

PATCHES is whatever `amf predict` takes: a folder, a stack, a pattern. Exits with 1 where a confidence moves
by more than 0.01, or a class changes further than that from the threshold.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from amf.bulk.items import find_items
from amf.bulk.read import read_pages
from amf.inference.predict import Predictor, score, sigmoid
from amf.model.bundle import load
from amf.model.classifier import CLASSES

TOLERANCE = 0.01


def main() -> int:
    """Score every page both ways and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("patches", nargs="+")
    parser.add_argument("--limit", type=int, help="only so many files, evenly spread")
    arguments = parser.parse_args()
    items = find_items(arguments.patches).items
    if arguments.limit and arguments.limit < len(items):
        items = [items[i] for i in np.linspace(0, len(items) - 1, arguments.limit).astype(int)]
    patches = np.concatenate([read_pages(item.path) for item in items])  # (N, 128, 128, 3)

    precise = in_full_precision(arguments.bundle, patches)
    predictor = Predictor(load(arguments.bundle), "cpu")
    given = predictor.predict(patches)
    threshold = predictor.spec.threshold
    moved = np.abs(np.array([p.confidence for p in given]) - precise)
    changed = np.array([p.label for p in given]) != np.array(CLASSES)[(precise >= threshold).astype(int)]
    far = changed & (np.abs(precise - threshold) > TOLERANCE)
    print(
        f"{len(patches)} pages: confidence moved by at most {moved.max():.5f}, mean {moved.mean():.5f}; "
        f"{changed.sum()} classes changed, {far.sum()} of them further than {TOLERANCE} from the threshold"
    )
    return int(moved.max() > TOLERANCE or far.any())


def in_full_precision(folder: Path, patches: NDArray[np.uint8]) -> NDArray[np.float64]:
    """P(atypical) (N,) of (N, 128, 128, 3) uint8 patches, in float32, one at a time."""
    bundle = load(folder)
    for model in bundle.members:
        model.float()
    members = list(zip(bundle.spec.members, bundle.members, strict=True))
    with torch.inference_mode():
        logits = [
            np.mean(
                [
                    score(model, [torch.from_numpy(p[None])], spec.image, spec.views, torch.float32).item()
                    for spec, model in members
                ]
            )
            for p in patches
        ]
    spec = bundle.spec
    return np.array([sigmoid(float(logit) / spec.temperature + spec.bias) for logit in logits])


if __name__ == "__main__":
    sys.exit(main())
