"""What a finished experiment leaves behind beside its numbers: enough to run it again and to trust it."""

import json
from pathlib import Path
from typing import Any

from amf.data.figures import Figures
from amf.errors import DataError
from amf.experiments.export import versions
from amf.files import write_text
from amf.training.recipe import Recipe

RECORD = "record.json"


def write_record(out: Path, recipe: Recipe, figures: Figures, **results: Any) -> None:
    """Save the resolved recipe, the table's hash, the versions and some results as record.json."""
    content = {
        "recipe": recipe.model_dump(mode="json"),
        "table_hash": figures.table_hash,
        "figures": len(figures.table),
        **results,
        "made_with": versions(),
    }
    write_text(out / RECORD, json.dumps(content, indent=1) + "\n")


def read_record(out: Path) -> dict[str, Any]:
    """Read what `write_record` saved.

    Raises
    ------
    DataError : it is not there or not readable.
    """
    path = out / RECORD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read, expected what `amf lodo --collect` wrote: {error}"
        ) from error
    if not isinstance(content, dict) or not {"recipe", "table_hash", "horizon"} <= content.keys():
        raise DataError(f"{path} is not a record that `amf lodo --collect` wrote")
    return content
