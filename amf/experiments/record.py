"""What a finished experiment leaves behind beside its numbers: enough to run it again and to trust it."""

import json
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pandas import DataFrame

from amf import __version__
from amf.data.figures import Figures
from amf.data.loading import read_json
from amf.errors import DataError
from amf.files import write_text, written_whole

RECORD = "record.json"
MEAN, STD = "mean", "std"


def write_record(out: Path, figures: Figures, **content: Any) -> None:
    """Save the table's hash, the versions and an experiment's own content as record.json."""
    table = {"table_hash": figures.table_hash, "figures": len(figures.table)}
    write_text(out / RECORD, json.dumps({**table, **content, "made_with": versions()}, indent=1) + "\n")


def read_record(out: Path, *keys: str) -> dict[str, Any]:
    """Read what `write_record` saved; DataError if it is not there or lacks one of the keys."""
    record = read_json(path := out / RECORD)
    if not isinstance(record, dict) or not {"table_hash", *keys} <= record.keys():
        raise DataError(f"{path} lacks {' or '.join(keys)}, expected what `amf lodo --collect` writes")
    return record


def write_csv(table: DataFrame, path: Path, index: str | None = None) -> None:
    """Write a table whole or not at all; `index` heads the column of its index, which is else left out."""
    with written_whole(path) as partial:
        table.to_csv(partial, index=index is not None, index_label=index)


def versions() -> dict[str, str]:
    """What a result was made with: this package, its git revision, and the libraries that shape numbers."""
    packages = {package: version(package) for package in ("timm", "peft", "numpy")}
    # Of torch the build, as +cpu or +cu130: a package's own version may leave it out.
    return {"amf": __version__, "revision": _revision(), "torch": str(torch.__version__), **packages}


def _revision() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return "unknown"
    return done.stdout.strip() or "unknown"


def with_mean_and_std(rows: DataFrame) -> DataFrame:
    """`rows` and below them their mean and sample standard deviation (n − 1), each row counting alike."""
    numbers = rows.loc[:, [kind.kind == "f" for kind in rows.dtypes]]
    summary = DataFrame({MEAN: numbers.mean(), STD: numbers.std()}).T
    return DataFrame({name: list(rows[name]) + list(summary.get(name, ["", ""])) for name in rows},
                     index=[*rows.index, MEAN, STD])  # fmt: skip


def markdown(table: DataFrame, first: str) -> str:
    """A Markdown table; `first` heads the index; fractions with three digits."""
    lines = ["| " + " | ".join([first, *map(str, table.columns)]) + " |", "|---" * (table.shape[1] + 1) + "|"]
    for name, row in zip(table.index, table.itertuples(index=False), strict=True):
        lines.append("| " + " | ".join([str(name), *map(_cell, row)]) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "–" if np.isnan(value) else f"{value:.3f}"
