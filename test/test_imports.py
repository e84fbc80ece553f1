"""Every program beside the package still finds what it imports from it."""

import subprocess
import sys

from test.support.paths import ROOT


def test_every_module_of_bench_and_docs_imports() -> None:
    modules = [
        f"{path.parent.name}.{path.stem}" for name in ("bench", "docs") for path in ROOT.glob(f"{name}/*.py")
    ]
    script = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)"

    done = subprocess.run([sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
