"""CONTRIBUTING.md is true: each of its examples is a change of one file, made here as it is written there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from test.support.paths import ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)

USE_THEM = """
import json
from pathlib import Path
import torch
from amf.model import backbones
from amf.augmentation.sets import AUGMENTATIONS, augment
from amf.data.recipe import load_data_recipe
from amf.augmentation.randomness import generator_at
from amf.training.recipe import Model

with torch.device("meta"):
    width = backbones.build("vit-small", {}).embedding_size
side = Model(backbone="vit-small", weights="hub", train="head").image.input_px

reading = load_data_recipe(Path("recipe.yaml")).read(Path("."), skip_bad=True)

patches = torch.arange(2 * 3 * 64 * 64).remainder(251).view(2, 3, 64, 64).to(torch.uint8)
first, second = (augment(AUGMENTATIONS["shear"], patches, generator_at(1)) for _ in range(2))
print(json.dumps({
    "backbone": [width, side],
    "figures": reading.table[["image", "label", "slide"]].values.tolist(),
    "removed": len(reading.removed),
    "augmented": [list(first.shape), torch.equal(first, second), torch.equal(first, patches / 255)],
}))
"""


def test_each_example_is_one_file_of_a_copy_of_the_package(tmp_path: Path) -> None:
    backbone, data_set, augmentation = EXAMPLES
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "amf", checkout / "amf")

    table, start = checkout / "amf" / "model" / "backbones.py", "BACKBONES: dict[str, Backbone] = {\n"
    table.write_text(table.read_text().replace(start, start + backbone))
    (checkout / "amf" / "data" / "sources" / "example.py").write_text(data_set)
    sets = checkout / "amf" / "augmentation" / "sets.py"
    sets.write_text(sets.read_text() + augmentation)

    (checkout / "labels.csv").write_text("file,slide,class\na.png,1,atypical\nb.png,1,normal\nc.png,2,odd\n")
    (checkout / "recipe.yaml").write_text("sources: [{source: example, labels: labels.csv}]\n")
    done = subprocess.run([sys.executable, "-c", USE_THEM], cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout)
    assert used["backbone"] == [384, 224]
    assert used["figures"] == [["a.png", 1, "example/1"], ["b.png", 0, "example/1"]]
    assert used["removed"] == 1
    shape, repeated, unchanged = used["augmented"]
    assert shape == [2, 3, 64, 64]
    assert repeated
    assert not unchanged
