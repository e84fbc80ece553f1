"""One fold of a cross-validation: train on its figures, predict those it never saw, keep the predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from amf.errors import DataError
from amf.predict import choose_device, score
from amf.training.data import Figures
from amf.training.export import trained_classifier
from amf.training.files import written_whole
from amf.training.fit import fit
from amf.training.recipe import Recipe
from amf.training.splits import Split, monitor_split

PREDICTIONS = "predictions.csv"


def run_fold(recipe: Recipe, figures: Figures, split: Split, folder: Path) -> pd.DataFrame:
    """Fit on a split's training side and score its held-out side; resumes a fold that was broken off.

    The epoch is chosen on 5 % of the training side (paper, Data splitting strategy), never on what is
    held out.

    Returns
    -------
    One row a held-out figure: image, slide, domain, label, soft_label, logit (before temperature).

    Raises
    ------
    DataError : the folder holds a fold of another recipe, table or split.
    """
    training = monitor_split(
        figures.table.iloc[split.train].reset_index(drop=True), seed=recipe.optimise.seed
    )
    train, monitor = split.train[training.train], split.train[training.held_out]
    fit(recipe, figures, train, monitor, folder, resume=True)
    done = folder / PREDICTIONS
    if not done.exists():
        logits = held_out_logits(folder, figures, split.held_out)
        rows = figures.table.iloc[split.held_out][["image", "slide", "domain", "label", "soft_label"]]
        with written_whole(done) as partial:
            rows.assign(logit=logits).to_csv(partial, index=False)
    return pd.read_csv(done)


@torch.inference_mode()
def held_out_logits(run: Path, figures: Figures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits (n,) of some rows by a run's best weights, in full precision and with the views that ship."""
    recipe, classifier = trained_classifier(run)
    device = choose_device("auto")
    classifier.to(device)
    parts = [
        score(
            classifier, figures.batch(part).to(device), recipe.model.image, recipe.model.views, torch.float32
        )
        for part in np.array_split(rows, max(1, len(rows) // 128))
    ]
    return torch.cat(parts).numpy()


def collect(folders: list[Path]) -> pd.DataFrame:
    """Join the predictions of finished folds, with a column `fold`.

    Raises
    ------
    DataError : a fold is missing, or a figure was predicted twice.
    """
    missing = [folder for folder in folders if not (folder / PREDICTIONS).is_file()]
    if missing:
        raise DataError(
            f"{missing[0] / PREDICTIONS} is not there: {len(missing)} of {len(folders)} folds are missing"
        )
    frames = [pd.read_csv(folder / PREDICTIONS).assign(fold=folder.name) for folder in folders]
    joined = pd.concat(frames, ignore_index=True)
    if joined["image"].duplicated().any():
        raise DataError(
            f"{folders[0].parent}: {joined['image'].duplicated().sum()} figures were predicted twice"
        )
    return joined
