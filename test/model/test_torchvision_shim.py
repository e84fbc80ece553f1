"""torchvision can be imported in any order of the imports, whichever build of it is installed."""

import subprocess
import sys

from test.support.paths import ROOT


def test_peft_and_torchvision_are_imported_where_timm_was_not() -> None:
    """The other order, timm first, is that of every test that builds a ViT."""
    code = (
        "from amf.model.torchvision_shim import ensure_torchvision; ensure_torchvision(); "
        "import peft, torchvision.transforms.functional, timm"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
