"""How far arithmetic moves P(atypical): half precision or int8 in batches, against float32 page by page.

    python -m bench.parity BUNDLE PATCHES [--limit N]
    python -m bench.parity vit-g PATCHES [--limit N] [--depth 40]

PATCHES is whatever `amf predict` takes: a folder, a stack, a pattern. `vit-g` makes a network of the shape of
H-optimus-0 whose answers spread (bench/vit_g.py), its head fitted to some of the patches, which must be those
of the published data sets; the others are scored with its weights stored as bfloat16 and as int8. Exits with
1 where a confidence moves by more than 0.01 (`vit-g`: 0.02); with `vit-g` also where the rank correlation is
below 0.999.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from amf.bulk.items import find_items
from amf.bulk.read import read_pages
from amf.experiments.int8 import float32_confidences, int8_member, is_close, moves, served
from amf.model.bundle import Bundle, load
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
    items = find_items(arguments.patches)
    if arguments.limit and arguments.limit < len(items):
        items = [items[i] for i in np.linspace(0, len(items) - 1, arguments.limit).astype(int)]
    patches = np.concatenate([read_pages(item.path) for item in items])  # (N, 128, 128, 3)

    if arguments.bundle == "vit-g":
        return measure_vit_g(patches, np.array([items_label(item.path) for item in items]), arguments.depth)
    loaded = load(Path(arguments.bundle))
    tensors = [in_float32(model.state_dict()) for model in loaded.members]
    report = moves(loaded, patches, float32_confidences(loaded.spec, tensors, patches))
    print(
        f"{len(patches)} pages: confidence moved by at most {report['largest move']:.5f}, mean "
        f"{report['mean move']:.5f}; {report['classes changed']} classes changed"
    )
    return int(report["largest move"] > TOLERANCE)


def in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of floating point in float32."""
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


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
    state = dict(network.state_dict())
    precise = BundleSpec("vit-g", 1.0, 0.5, "nothing", (spec,))
    expected = float32_confidences(precise, [state], patches[others])
    bad = 0
    for dtype in ("bfloat16", "int8"):
        stored = dataclasses.replace(spec, dtype=dtype)
        tensors = int8_member(stored, state, patches[fitted]) if dtype == "int8" else state
        described = dataclasses.replace(precise, members=(stored,))
        report = moves(Bundle(described, (served(stored, tensors),)), patches[others], expected)
        print(f"{depth} blocks, {dtype}: {report}", flush=True)
        bad += not is_close(report)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
