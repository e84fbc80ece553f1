"""What the loop trains on: the patch table and its packed patches, opened together."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from amf.data.packed import open_packed
from amf.data.table import read_table

TABLE, PATCHES = "table.csv", "patches.npy"


@dataclass(frozen=True)
class Figures:
    """The figures of a table, column by column, N rows.

    Attributes
    ----------
    table : the patch table; table_hash : its hash.
    patches : (N, 128, 128, 3) uint8, memory-mapped.
    label, soft_label : (N,) float32; domain : (N,) int64, an index into `domains`.
    """

    table: pd.DataFrame
    table_hash: str
    patches: NDArray[np.uint8]
    label: NDArray[np.float32]
    soft_label: NDArray[np.float32]
    domain: NDArray[np.int64]
    domains: tuple[str, ...]

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Patches (B, 128, 128, 3) uint8 of the given rows."""
        return torch.from_numpy(self.patches[rows])

    def batches(self, rows: NDArray[np.int64], size: int = 128) -> Iterator[Tensor]:
        """The rows' patches in order, `size` at a time."""
        for start in range(0, len(rows), size):
            yield self.batch(rows[start : start + size])


def open_figures(folder: Path) -> Figures:
    """Open what `amf data` wrote; DataError where a file is missing, damaged or of another table."""
    table = read_table(folder / TABLE)
    packed = open_packed(folder / PATCHES)
    rows = packed.rows(table)
    domains = tuple(sorted(rows["domain"].unique()))
    return Figures(
        table=rows,
        table_hash=packed.table_hash,
        patches=packed.patches,
        label=rows["label"].to_numpy(np.float32),
        soft_label=rows["soft_label"].to_numpy(np.float32),
        domain=rows["domain"].map(domains.index).to_numpy(np.int64),
        domains=domains,
    )
