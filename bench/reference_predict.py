"""A folder of patches as training code scores it: torch's DataLoader, a process a core, Pillow.

    python -m bench.reference_predict FOLDER BUNDLE

Only bench/predict.py runs it, for comparison. The network, its arithmetic and the crop are the bundle's; how
files become batches is not.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from amf.inference.predict import Predictor
from amf.model import bundle


class Folder(Dataset[NDArray[np.uint8]]):
    """The PNG files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.rglob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """(128, 128, 3) uint8."""
        with Image.open(self.files[index]) as image:
            return np.array(image.convert("RGB"))


def main() -> None:
    """Score the folder; prints as `amf predict` does."""
    predictor = Predictor(bundle.load(Path(sys.argv[2])), "cpu")
    started = time.perf_counter()
    loader = DataLoader(Folder(Path(sys.argv[1])), batch_size=64, num_workers=torch.get_num_threads())
    logits = np.concatenate([predictor.logits(batch.numpy()) for batch in loader])
    seconds = time.perf_counter() - started
    print(f"scored {len(logits)} files in {seconds:.1f} s, {len(logits) / seconds:.0f} a second")


if __name__ == "__main__":
    main()
