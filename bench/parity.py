"""How far arithmetic moves P(atypical): half precision or int8 in batches, against float32 page by page.

    python -m bench.parity BUNDLE PATCHES [--limit N]
    python -m bench.parity vit-g PATCHES [--limit N] [--depth 40]

PATCHES is whatever `amf predict` takes: a folder, a stack, a pattern. `vit-g` makes a network of the shape of
H-optimus-0 whose answers spread (bench/vit_g.py), its head fitted to some of the patches, which must be those
of the published data sets; the others are scored with its weights stored as bfloat16 and as int8. Exits with
1 where a confidence moves by more than 0.01 (`vit-g`: 0.02), or a class changes further than that from the
threshold; with `vit-g` also where the rank correlation is below 0.999.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from amf.bulk.items import find_items
from amf.bulk.read import read_pages
from amf.experiments.int8 import compared, int8_member, is_close, served
from amf.inference.predict import Predictor, score, sigmoid
from amf.model.bundle import Bundle, load
from amf.model.classifier import CLASSES
from amf.model.spec import BundleSpec
from bench import vit_g

TOLERANCE = 0.01


def main() -> int:
    """Score every page both ways and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("patches", nargs="+")
    parser.add_argument("--limit", type=int, help="only so many files, evenly spread")
    parser.add_argument("--depth", type=int, default=40, help="blocks of vit-g")
    arguments = parser.parse_args()
    items = find_items(arguments.patches).items
    if arguments.limit and arguments.limit < len(items):
        items = [items[i] for i in np.linspace(0, len(items) - 1, arguments.limit).astype(int)]
    patches = np.concatenate([read_pages(item.path) for item in items])  # (N, 128, 128, 3)

    if arguments.bundle == "vit-g":
        return measure_vit_g(patches, np.array([items_label(item.path) for item in items]), arguments.depth)
    precise = in_full_precision(Path(arguments.bundle), patches)
    predictor = Predictor(load(Path(arguments.bundle)), "cpu")
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


def items_label(path: Path) -> int:
    """1 where a patch lies in a folder of atypical figures."""
    return int("atypical" in str(path.parent).lower())


def measure_vit_g(patches: NDArray[np.uint8], labels: NDArray[np.int64], depth: int) -> int:
    """Fit a network, store it both ways, print what either does to the answers."""
    spec = vit_g.member(depth)
    fitted = np.linspace(0, len(patches) - 1, vit_g.FITTED_ON).astype(int)
    others = np.setdiff1d(np.arange(len(patches)), fitted)
    network = vit_g.random_network(spec)
    vit_g.fit_head(network, spec, patches[fitted], labels[fitted])
    pages = [torch.from_numpy(page[None]) for page in patches[others]]
    logits = score(network, pages, spec.image, 1, torch.float32).tolist()
    expected = np.array([sigmoid(logit) for logit in logits])
    state = dict(network.state_dict())
    bad = 0
    for dtype in ("bfloat16", "int8"):
        stored = dataclasses.replace(spec, dtype=dtype)
        tensors = int8_member(stored, state, patches[fitted]) if dtype == "int8" else state
        described = BundleSpec("vit-g", 1.0, 0.5, "nothing", (stored,))
        predictor = Predictor(Bundle(described, (served(stored, tensors),)), "cpu")
        given = predictor.predict(patches[others])
        confidences = np.array([p.confidence for p in given])
        report = compared(confidences, expected, np.array([p.label for p in given]), described.threshold)
        print(f"{depth} blocks, {dtype}: {report}", flush=True)
        bad += not is_close(report)
    return int(bad > 0)


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
