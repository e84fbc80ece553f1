"""Job folders and stacks as the platform lays them, and the entry point run on them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amf.inference.sockets import INPUT_SOCKET as SOCKET
from test.support.paths import ROOT


def write_job(folder: Path, name: str) -> Path:
    """Write inputs.json and the socket's empty folder, which is returned."""
    socket = {"slug": SOCKET, "kind": "Image", "relative_path": f"images/{SOCKET}"}
    stack_folder = folder / "images" / SOCKET
    stack_folder.mkdir(parents=True)
    (folder / "inputs.json").write_text(json.dumps([{"image": {"name": name}, "interface": socket}]))
    return stack_folder


def save_tiff(path: Path, pages: NDArray[np.uint8], **options: object) -> None:
    """Write pages as the platform does: multi-page, Deflate."""
    first, *rest = [Image.fromarray(page) for page in pages]
    options = {"compression": "tiff_adobe_deflate", **options}
    first.save(path, format="TIFF", save_all=True, append_images=rest, **options)


def run_inference(*flags: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "inference.py", *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)
