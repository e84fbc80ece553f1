"""README's doors, as they stand there, from a clean clone: score and look.

Training has its own page and test (docs/your-data.md), the paper's plan is in test/workflow; the container is
run by test.sh in .ci/container.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from test.support.paths import ROOT
from test.support.slides import lay, write_pyramid

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("  #")[0].strip() for line in README.splitlines() if line.startswith("amf ")]
SNIPPET = re.search(r"```python\n(.*?)```", README, re.DOTALL)
RUN = """
import shlex, sys
from amf.cli import main
for command in sys.stdin.read().splitlines():
    if code := main(shlex.split(command)[1:]):
        sys.exit(f"{command}: exit code {code}")
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tracked files as they are now, with a folder of patches, their labels, a slide and its figures."""
    folder = tmp_path_factory.mktemp("clone")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with Image.open(next((ROOT / "test" / "input" / "tiff").rglob("*.tif"))) as stack:
        pages = []
        for page in range(4):
            stack.seek(page)
            pages.append(stack.convert("RGB"))
    (folder / "FOLDER").mkdir()
    for page, image in enumerate(pages):
        image.save(folder / "FOLDER" / f"{page}.png")
    pages[0].save(folder / "patch.png")
    labels = pd.DataFrame({"image": [f"{page}.png" for page in range(4)], "label": ["NMF", "AMF"] * 2})
    labels.to_csv(folder / "labels.csv", index=False)
    canvas, centres = lay([np.asarray(image) for image in pages])
    write_pyramid(folder / "SLIDE", canvas, 0.25)
    pd.DataFrame(centres, columns=["x", "y"]).to_csv(folder / "FIGURES", index=False)
    return folder


def test_score_and_look(clone: Path) -> None:
    commands = [line for line in COMMANDS if re.match(r"amf (predict|evaluate|job|slide|review) ", line)]
    assert len(commands) == 5
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=clone, input="\n".join(commands), capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(clone / "predictions.csv")) == 4
    assert (clone / "report" / "report.html").is_file()
    assert json.loads((clone / "JOB" / "inputs.json").read_text())
    assert len(json.loads((clone / "figures.geojson").read_text())["features"]) == 4
    assert (clone / "review.html").stat().st_size > 10_000


def test_the_python_door(clone: Path) -> None:
    assert SNIPPET is not None
    done = subprocess.run([sys.executable, "-c", SNIPPET[1]], cwd=clone, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("['normal'] [0.0", "['atypical'] ["))


def test_every_command_of_the_readme_is_one() -> None:
    names = {line.split()[1] for line in COMMANDS}
    listed = {path.stem for path in (ROOT / "amf" / "commands").glob("*.py")}

    assert names <= listed
    assert {"predict", "evaluate", "job", "slide", "review", "data", "final", "inspect"} <= names
