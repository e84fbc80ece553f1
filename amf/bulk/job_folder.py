"""A job for the platform's container out of patches that lie in a folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame
from PIL import Image

from amf.bulk.items import Item
from amf.errors import DataError, JobError
from amf.files import write_text, written_whole
from amf.inference.sockets import INPUT_SOCKET

STACK = "stack.tiff"
MICRON_PER_PX = 0.25


def write_job(items: Sequence[Item], out: Path) -> int:
    """Write inputs.json, the stack of all patches in the order of the items, and pages.csv: which is which.

    Returns
    -------
    The number of pages.

    Raises
    ------
    DataError : an item holds no patches, which is said of all such before anything is written; or the folder
        holds a job already.
    """
    if (out / "inputs.json").exists():
        raise DataError(f"{out / 'inputs.json'} exists already: delete the job, or name another folder")
    patches: list[Image.Image] = []
    rows: list[tuple[int, str]] = []
    faults: list[str] = []
    for item in items:
        try:
            pages = item.read()
        except JobError as fault:
            faults.append(str(fault))
        else:
            patches += [Image.fromarray(page) for page in pages]
            rows += [(len(rows) + number, item.image) for number in range(1, len(pages) + 1)]
    if faults:
        raise DataError(f"{len(faults)} of {len(items)} files are no patches; the first: {faults[0]}")
    first, *rest = patches
    folder = Path("images") / INPUT_SOCKET
    with written_whole(out / folder / STACK) as partial:
        per_cm = 10_000 / MICRON_PER_PX
        first.save(
            partial,
            "TIFF",
            save_all=True,
            append_images=rest,
            compression="tiff_adobe_deflate",
            resolution=per_cm,
            resolution_unit="cm",
        )
    with written_whole(out / "pages.csv") as partial:
        DataFrame(rows, columns=["page", "image"]).to_csv(partial, index=False, lineterminator="\n")
    described = {"slug": INPUT_SOCKET, "kind": "Image", "super_kind": "Image", "relative_path": str(folder)}
    entry = {"file": None, "image": {"name": STACK}, "value": None, "socket": described}
    write_text(out / "inputs.json", json.dumps([entry], indent=1) + "\n")
    return len(rows)
