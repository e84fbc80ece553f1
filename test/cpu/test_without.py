"""Without amf/cpu/ a checkout scores and trains all the same."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test.support.drawn import pack_figures
from test.support.paths import ROOT
from test.support.small import compact_recipe

LITE = {"backbone": "efficientnet-lite0", "train": "all", "weights": "random", "hidden": 8, "input_px": 32}
TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
from amf.data.figures import open_figures
from amf.inference import ready
from amf.training.loop import fit
from amf.training.recipe import parse_recipe
assert ready.cpu is None
recipe = parse_recipe(json.loads(sys.argv[1]), "recipe")
outcome = fit(recipe, open_figures(Path(sys.argv[2])), np.arange(70), np.arange(70, 96), Path(sys.argv[3]))
print(outcome.best_loss)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what scores and trains, without the room."""
    folder = tmp_path_factory.mktemp("without") / "checkout"
    shutil.copytree(ROOT / "amf", folder / "amf", ignore=shutil.ignore_patterns("cpu", "__pycache__"))
    shutil.copytree(ROOT / "model", folder / "model")
    shutil.copy(ROOT / "inference.py", folder)
    return folder


def test_the_shipped_bundle_gives_its_answers(checkout: Path, tmp_path: Path) -> None:
    flags = ["--input", ROOT / "test" / "input" / "tiff", "--output", tmp_path, "--device", "cpu"]
    command = [sys.executable, "inference.py", *flags]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (answer,) = tmp_path.glob("*.json")
    given = json.loads(answer.read_text())
    expected = json.loads((ROOT / "test" / "expected.json").read_text())
    assert [page["class"] for page in given] == [page["class"] for page in expected]
    confidences = [page["confidence"] for page in expected]
    # by how much another kernel in bfloat16 may move them, as recipes/compact.yaml says
    assert [page["confidence"] for page in given] == pytest.approx(confidences, abs=0.003)


def test_a_network_of_depthwise_convolutions_learns(checkout: Path, tmp_path: Path) -> None:
    pack_figures(tmp_path)
    recipe = compact_recipe(model=LITE, optimise={"epochs": 1}).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, recipe, tmp_path, tmp_path / "run"],
        cwd=checkout, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) < 2
    assert (tmp_path / "run" / "best.safetensors").is_file()
