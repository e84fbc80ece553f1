"""Fetch the weights that recipes name, from the hub where need be, and record which files they are."""

import json
from pathlib import Path

from amf.files import write_text
from amf.model.digest import file_digest
from amf.training.pretrained import weights_file
from amf.training.recipe import read_recipes

found = {}
for model in (recipe.model for path in snakemake.input.recipes for recipe in read_recipes(Path(path))):
    if model.weights == "random":
        found[model.backbone] = "random"
    elif model.backbone not in found:
        path = weights_file(model.backbone, model.weights)
        found[model.backbone] = f"{model.weights}, {path.name}, SHA-256 {file_digest(path)}"
write_text(Path(snakemake.output[0]), json.dumps(found, indent=1) + "\n")
