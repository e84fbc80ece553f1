"""Only safetensors and JSON are read on the online path: no pickle is opened, nothing in a bundle is run."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from amf.inference.job import OUTPUT_NAME
from amf.model.digest import file_digest
from test.support.bundles import change, refused, weights_of
from test.support.fixtures import Make, Pages
from test.support.paths import ROOT

RUN_WITH_TRAPS = """
import pickle, runpy, sys
import numpy, torch

def sprung(*arguments, **options):
    raise SystemExit("a pickle was opened")

class Sprung(pickle.Unpickler):
    __init__ = sprung

def audit(event, arguments):
    if event == "pickle.find_class" or event.startswith(("subprocess.", "socket.", "os.system", "os.exec")):
        raise SystemExit(f"{event} {arguments}")

pickle.load = pickle.loads = torch.load = numpy.load = sprung
pickle.Unpickler = pickle._Unpickler = Sprung
sys.addaudithook(audit)
sys.argv = sys.argv[1:]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Trap:
    """Unpickled, it leaves a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return (Path.touch, (self.file,))


def test_a_job_opens_no_pickle_no_socket_and_no_process(
    make_job: Make, make_bundle: Make, tmp_path: Path, pages: Pages
) -> None:
    """Run the entry point where every way to unpickle is a trap, beside a bundle full of bait."""
    model = make_bundle()
    for name in ("pytorch_model.bin", "model.pt", "bundle.pkl", "member0.pth", "member1.npy"):
        torch.save(Trap(tmp_path / "sprung"), model / name)
    for name in ("sitecustomize.py", "torch.py", "amf.py"):
        (model / name).write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    command = [sys.executable, "-c", RUN_WITH_TRAPS, ROOT / "inference.py", "--input", make_job(pages)]
    command += ["--output", tmp_path, "--model", model, "--device", "cpu"]
    done = subprocess.run(command, cwd=model.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(json.loads((tmp_path / OUTPUT_NAME).read_text())) == len(pages)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("save", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))])
def test_a_pickle_whose_hash_is_right_is_refused_unopened(
    make_bundle: Make, tmp_path: Path, save: Callable[[Trap, Path], object]
) -> None:
    folder = make_bundle()
    weights = weights_of(folder)
    save(Trap(tmp_path / "sprung"), weights)
    assert not (tmp_path / "sprung").exists()
    digest = file_digest(weights)
    change(folder, lambda content: content["members"][0].update(sha256=digest))
    assert "is not a safetensors file" in refused(folder)
    assert not (tmp_path / "sprung").exists()
    if save is not torch.save:
        pickle.loads(weights.read_bytes())
        assert (tmp_path / "sprung").exists()  # the trap works
