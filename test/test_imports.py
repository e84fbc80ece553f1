"""Every program beside the package still finds what it imports from it."""

import subprocess
import sys

from test.support.paths import ROOT

SCRIPT = """
import importlib, sys
from amf.model.torchvision_shim import ensure_torchvision
ensure_torchvision()
import peft, torchvision.transforms.functional, timm
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def test_every_module_of_bench_and_docs_imports() -> None:
    """After torchvision without timm: the other order is that of every test that builds a ViT."""
    modules = [
        f"{path.parent.name}.{path.stem}" for name in ("bench", "docs") for path in ROOT.glob(f"{name}/*.py")
    ]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *modules], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
