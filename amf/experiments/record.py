"""What a finished experiment leaves behind beside its numbers: enough to run it again and to trust it."""

import json
from pathlib import Path
from typing import Any

from amf.data.figures import Figures
from amf.errors import DataError
from amf.experiments.export import versions
from amf.files import write_text

RECORD = "record.json"


def write_record(out: Path, figures: Figures, **content: Any) -> None:
    """Save the table's hash, the versions and an experiment's own content as record.json."""
    record = {
        "table_hash": figures.table_hash,
        "figures": len(figures.table),
        **content,
        "made_with": versions(),
    }
    write_text(out / RECORD, json.dumps(record, indent=1) + "\n")


def read_record(out: Path, *keys: str) -> dict[str, Any]:
    """Read what `write_record` saved.

    Raises
    ------
    DataError : it is not there, not readable, or lacks one of the keys.
    """
    path = out / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read, expected what `amf lodo --collect` wrote: {error}"
        ) from error
    if not isinstance(record, dict) or not {"table_hash", *keys} <= record.keys():
        raise DataError(f"{path} lacks {' or '.join(keys)}, expected what `amf lodo --collect` writes")
    return record
