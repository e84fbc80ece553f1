"""RECIPE OUT: fetch the weights that a recipe names, from the hub where need be; record which they are."""

import sys
from pathlib import Path

from amf.files import write_text
from amf.model.digest import file_digest
from amf.training.pretrained import weights_file
from amf.training.recipe import read_recipes

recipe, out = map(Path, sys.argv[1:])
model = read_recipes(recipe)[0].model
found = model.weights
if found != "random":
    path = weights_file(model.backbone, model.weights)
    found = f"{found}, {path.name}, SHA-256 {file_digest(path)}"
write_text(out, f"{model.backbone}: {found}\n")
