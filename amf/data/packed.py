"""All patches of a table as one memory-mapped uint8 array, so that training never decodes an image again."""

import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pandas import DataFrame
from tqdm import tqdm

from amf.data.loading import read_json
from amf.data.patches import file_of, read_patches
from amf.data.table import REMOVED_COLUMNS, remove_identical, stack, table_hash
from amf.errors import DataError
from amf.files import write_text, written_whole
from amf.model.cores import available_cores
from amf.model.digest import file_digest
from amf.model.preprocess import PATCH_PX

UNUSABLE_IMAGE = "unusable image"


@dataclass(frozen=True)
class PackedPatches:
    """The patches of a table, row by row.

    Attributes
    ----------
    path : the .npy file; its record is the .json beside it.
    patches : uint8 (N, 128, 128, 3), RGB, read-only memory map; row i belongs to row i of the table.
    table_hash : `table.table_hash` of that table.
    sha256 : of the .npy file.
    removed : the rows of the table handed to `pack` that are not in the array, with `reason` and `detail`.
    """

    path: Path
    patches: np.ndarray
    table_hash: str
    sha256: str
    removed: DataFrame

    def rows(self, table: DataFrame) -> DataFrame:
        """`table` itself, or less the rows that packing removed; DataError if it is another one."""
        rows = table[~table["image"].isin(self.removed["image"])].reset_index(drop=True)
        if table_hash(rows) != self.table_hash:
            raise DataError(
                f"{self.path}: packed from another table of {len(self.patches)} rows, "
                f"not from this one of {len(rows)}; run `amf data` again"
            )
        return rows


def pack(
    table: DataFrame, root: Path, path: Path, workers: int | None = None, skip_bad: bool = False
) -> PackedPatches:
    """Decode every patch of a table once, drop pixel-identical ones, and write the array and its record.

    Parameters
    ----------
    table : a patch table of N rows.
    root : the folder its images are relative to.
    path : the .npy file to write.
    workers : threads that decode; by default one for each core this process may use.
    skip_bad : list images that are missing, unreadable or of another size in `removed` instead of raising.

    Raises
    ------
    DataError : names the first unusable image, its row and its fault, and how many there are.
    """
    table = table.reset_index(drop=True)
    images = enumerate(table["image"])
    missing = {row: "no such file" for row, image in images if not (root / file_of(image)).is_file()}
    if not skip_bad:  # said at once, not after decoding all the others
        _refuse(table, root, missing)
    with written_whole(path) as partial:
        hashes, faults = _decode(table, root, partial, workers or available_cores())
        if not skip_bad:
            _refuse(table, root, faults)
        rows, removed = _without(table, hashes, faults)
        if not len(rows):
            raise DataError(f"{root}: none of the {len(table)} images of the table is usable")
        if len(removed):
            _keep(partial, ~table["image"].isin(removed["image"]).to_numpy())
    record = {
        "table_hash": table_hash(rows),
        "sha256": file_digest(path),
        "shape": [len(rows), PATCH_PX, PATCH_PX, 3],
        "removed": json.loads(removed.to_json(orient="records")),
    }
    write_text(path.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    return open_packed(path)


def open_packed(path: Path) -> PackedPatches:
    """Open a packed array and verify it against its record.

    Raises
    ------
    DataError : the array or its record is missing, damaged, or the two do not belong together.
    """
    record = read_json(path.with_suffix(".json"))
    try:
        if file_digest(path) != record["sha256"]:
            raise DataError(
                f"{path}: its SHA-256 is not the one in {path.with_suffix('.json').name}; pack it again"
            )
        removed = DataFrame(record["removed"], columns=REMOVED_COLUMNS)
        patches = np.load(path, mmap_mode="r")
        return PackedPatches(path, patches, record["table_hash"], record["sha256"], removed)
    except FileNotFoundError as missing:
        raise DataError(f"{missing.filename}: no such file; `amf data` packs the patches") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a packed array with its record: {error!r}") from None


def _refuse(table: DataFrame, root: Path, faults: Mapping[int, str]) -> None:
    """Raise for the first of the rows at fault, if there is one."""
    if faults:
        row, fault = min(faults.items())
        raise DataError(
            f"{root / file_of(table['image'].iloc[row])} (row {row + 1} of the table): {fault}; "
            f"{len(faults)} of {len(table)} images are unusable"
        )


def _decode(table: DataFrame, root: Path, target: Path, workers: int) -> tuple[list[str], dict[int, str]]:
    """Write all patches to `target` in table order; return content hashes and the faults by row number."""
    images = table["image"].tolist()
    rows_of = defaultdict[str, list[int]](list)  # file -> its rows: a whole ROI is decoded once for all
    for row, image in enumerate(images):
        rows_of[file_of(image)].append(row)
    array = _new_array(target, (len(table), PATCH_PX, PATCH_PX, 3))
    hashes, faults = [""] * len(table), dict[int, str]()

    def decode(file: str) -> None:
        rows = rows_of[file]
        for row, patch in zip(rows, read_patches(root / file, [images[row] for row in rows]), strict=True):
            if isinstance(patch, str):
                faults[row] = patch
            else:
                array[row] = patch  # (128, 128, 3)
                hashes[row] = hashlib.sha256(patch.tobytes()).hexdigest()

    # Pillow and hashlib release the interpreter lock while they work, so threads suffice.
    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(total=len(images), desc="packing", unit="patch", disable=None) as progress,
    ):
        for file, _ in zip(rows_of, pool.map(decode, rows_of), strict=True):
            progress.update(len(rows_of[file]))
    array.flush()
    return hashes, faults


def _without(table: DataFrame, hashes: list[str], faults: dict[int, str]) -> tuple[DataFrame, DataFrame]:
    bad = np.isin(np.arange(len(table)), list(faults))
    unusable = table[bad].assign(reason=UNUSABLE_IMAGE, detail=[faults[row] for row in sorted(faults)])
    rows, identical = remove_identical(table[~bad], [hashes[row] for row in np.flatnonzero(~bad)])
    return rows, stack([unusable, identical])


def _new_array(path: Path, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file of uint8 with its space on the disk: else a full disk kills the process later."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    if hasattr(os, "posix_fallocate"):  # which macOS lacks
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _keep(path: Path, kept: np.ndarray) -> None:
    """Rewrite an array file with only the rows where `kept` is true, a bool array (N,)."""
    everything = np.load(path, mmap_mode="r")
    rows = np.flatnonzero(kept)
    with written_whole(path) as smaller:
        shape = (len(rows), *everything.shape[1:])
        array = _new_array(smaller, shape)
        for start in range(0, len(rows), 1024):  # a table may be larger than memory
            array[start : start + 1024] = everything[rows[start : start + 1024]]
        array.flush()
