"""Only safetensors and JSON are read on the online path: no pickle is opened, nothing in a bundle is run."""

import ast
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from amf.errors import BundleError
from amf.inference.job import OUTPUT_NAME
from amf.model import bundle
from amf.model.digest import FILE_NAME, file_digest
from amf.model.preprocess import ImageSpec
from test.support.bundles import change, places, put, refused, scored, weights_of
from test.support.image import in_the_image
from test.support.paths import ROOT

Make = Callable[..., Path]
Pages = NDArray[np.uint8]

ONLINE = [ROOT / "inference.py", *sorted(in_the_image())]
UNSAFE_MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "cloudpickle",
    "dill",
    "joblib",
    "marshal",
    "shelve",
    "yaml",
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "np.load", "numpy.load", "os.system"}


def unsafe(source: str) -> Iterator[str]:
    """What a module imports or calls that can run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in UNSAFE_CALLS:
            yield called


@pytest.mark.parametrize("path", ONLINE, ids=lambda path: path.name)
def test_no_module_of_the_online_half_can_unpickle(path: Path) -> None:
    assert list(unsafe(path.read_text())) == []


@pytest.mark.parametrize("source", ["import pickle", "from joblib import load", "torch.load(f)", "eval('1')"])
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(unsafe(source))


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


def test_the_trap_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


VIT = {"model_name": "vit_tiny_patch16_224", "pool": "native", "img_size": 32, "depth": 1}


@pytest.mark.parametrize(
    ("backbone", "arguments"), [("compact", None), pytest.param("timm", VIT, marks=pytest.mark.soak)]
)
def test_a_job_opens_no_pickle_no_socket_and_no_process(
    make_job: Make, make_bundle: Make, tmp_path: Path, pages: Pages, backbone: str, arguments: Any
) -> None:
    """Run the entry point where every way to unpickle is a trap, beside a bundle full of bait."""
    image = ImageSpec(128, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    model = make_bundle(backbone=backbone, arguments=arguments, image=image)
    for name in ("pytorch_model.bin", "model.pt", "bundle.pkl", "member0.pth", "member1.npy"):
        torch.save(Trap(tmp_path / "sprung"), model / name)
    for name in ("sitecustomize.py", "torch.py", "amf.py", "__init__.py", "conftest.py"):
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
    digest = file_digest(weights)
    change(folder, lambda content: content["members"][0].update(sha256=digest))
    assert "is not a safetensors file" in refused(folder)
    assert not (tmp_path / "sprung").exists()


VALUES = [
    None,
    True,
    -1,
    0,
    10**30,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    1e-300,
    "",
    "x",
    "\0",
    [],
    [1],
    [None],
    {},
    {"a": 1},
]


def test_any_value_anywhere_in_the_description_is_understood_or_refused(make_bundle: Make) -> None:
    """Signed as a careful forger would: whatever stands there, it is no other error than BundleError."""
    folder = make_bundle()
    description = folder / FILE_NAME
    original = description.read_text()
    tried = refusals = 0
    for path in places(json.loads(original)):
        for value in VALUES:
            change(folder, lambda content, path=path, value=value: put(content, path, value))  # type: ignore[misc]
            try:
                scored(folder)
            except BundleError as error:
                refusals += "\n" not in str(error)
            description.write_text(original)
            tried += 1
    assert tried > 400
    assert refusals > 0.8 * tried


def test_a_description_without_end_is_refused(make_bundle: Make) -> None:
    folder = make_bundle()
    (folder / FILE_NAME).write_text('{"members":' + "[" * 10**6)
    assert "bundle.json is not valid JSON" in refused(folder)


@pytest.mark.soak
def test_1000_flipped_bytes_of_the_shipped_bundle_are_caught(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "model", folder)
    generator = np.random.default_rng(0)
    weights = weights_of(folder)
    caught = dict.fromkeys([FILE_NAME, weights.name], 0)
    for number in range(1000):
        path = folder / FILE_NAME if number % 4 == 0 else weights
        with path.open("r+b") as file:
            at = int(generator.integers(path.stat().st_size))
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(
                bytes([byte ^ int(generator.integers(0x80, 0x100))])
            )  # never white space for white space
            file.flush()
            refused(folder)
            caught[path.name] += 1
            file.seek(at)
            file.write(bytes([byte]))
    print(caught)
    bundle.load(folder)
    assert caught == {FILE_NAME: 250, weights.name: 750}
