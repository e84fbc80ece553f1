"""One fold of a cross-validation: train on its figures, predict those it never saw, keep the predictions."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from numpy.typing import NDArray

from amf.data.figures import Figures
from amf.data.splits import Split, monitor_split
from amf.errors import DataError
from amf.experiments.export import trained_classifier
from amf.files import write_text, written_whole
from amf.inference.predict import pages_a_pass, score
from amf.model.device import choose_device
from amf.model.digest import file_digest
from amf.model.serving import make_ready
from amf.training.learner import CHECKPOINT
from amf.training.loop import HISTORY, best_so_far, fit
from amf.training.recipe import Recipe, read_recipe

PREDICTIONS, FOLD_RECORD = "predictions.csv", "fold.json"
_OTHER = {
    "table": "a fold of another table: choose another folder",
    "split": "a fold of another split or training side: choose another folder",
    "predictions": f"{PREDICTIONS} changed since the fold was finished: delete it to score the fold again",
}


def fold_folder(out: Path, split: Split) -> Path:
    """The folder of one fold, named after its split."""
    return out / slug(split.name)


def slug(name: str) -> str:
    """A name fit for a folder: lower case, letters, digits and dots, hyphens for the rest."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.").lower()


def chosen(splits: list[Split], fold: int | None) -> list[Split]:
    """All splits, or the one of that number, from 0.

    Raises
    ------
    DataError : there is no such fold.
    """
    if fold is not None and not 0 <= fold < len(splits):
        raise DataError(f"fold is {fold}, expected 0 to {len(splits) - 1}: there are {len(splits)} folds")
    return splits if fold is None else [splits[fold]]


def run_fold(recipe: Recipe, figures: Figures, split: Split, folder: Path) -> pd.DataFrame:
    """Fit on a split's training side and score its held-out side; resumes a fold that was broken off.

    The epoch is chosen on 5 % of the training side (paper, Data splitting strategy), never on what is
    held out. A finished fold is read, not run again.

    Returns
    -------
    One row a held-out figure: image, slide, domain, label, soft_label, logit (before temperature).

    Raises
    ------
    DataError : the folder holds a fold of another recipe, table or split.
    """
    if not is_finished(folder):
        if (folder / PREDICTIONS).is_file() and not (folder / CHECKPOINT).exists():
            raise DataError(
                f"{folder} holds predictions without {FOLD_RECORD} or a checkpoint to tell what they are of: "
                "delete the folder, or choose another"
            )
        training = monitor_split(
            figures.table.iloc[split.train].reset_index(drop=True), seed=recipe.optimise.seed
        )
        train, monitor = split.train[training.train], split.train[training.held_out]
        fit(recipe, figures, train, monitor, folder, resume=True)
        with PartialState().main_process_first():  # under a launcher one process scores, the others read
            if not is_finished(folder):
                rows = figures.table.iloc[split.held_out][["image", "slide", "domain", "label", "soft_label"]]
                logits = held_out_logits(folder, figures, split.held_out)
                with written_whole(folder / PREDICTIONS) as partial:
                    rows.assign(logit=logits).to_csv(partial, index=False)
                write_text(folder / FOLD_RECORD, json.dumps(_record(figures, split, folder)) + "\n")
    return read_fold(recipe, figures, split, folder)


def is_finished(folder: Path) -> bool:
    """Whether a fold has been trained, scored and recorded."""
    return (folder / PREDICTIONS).is_file() and (folder / FOLD_RECORD).is_file()


def _record(figures: Figures, split: Split, folder: Path) -> dict[str, str]:
    """What a finished fold is of, beside its recipe: table, both sides of the split, its own predictions."""
    return {
        "table": figures.table_hash,
        "split": split.digest,
        "predictions": file_digest(folder / PREDICTIONS),
    }


def read_fold(recipe: Recipe, figures: Figures, split: Split, folder: Path) -> pd.DataFrame:
    """The predictions of a finished fold, checked to be of this recipe, table and split.

    Returns
    -------
    As `run_fold`, and the table's columns tumor and species.

    Raises
    ------
    DataError : the fold is not finished, or was of another recipe, table or split.
    """
    path = folder / PREDICTIONS
    if not is_finished(folder):
        raise DataError(
            f"{folder} lacks {PREDICTIONS} or {FOLD_RECORD}: this fold has not been run to its end"
        )
    if read_recipe(folder / "recipe.yaml") != recipe:
        raise DataError(f"{folder} holds a fold of another recipe than {recipe.name}: choose another folder")
    try:
        found = dict(json.loads((folder / FOLD_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{folder / FOLD_RECORD} cannot be read, expected a fold's record: {error}"
        ) from error
    for part, value in _record(figures, split, folder).items():
        if found.get(part) != value:
            raise DataError(f"{folder} holds {_OTHER[part]}")
    rows = figures.table.iloc[split.held_out][["tumor", "species"]].reset_index(drop=True)
    return pd.concat([pd.read_csv(path), rows], axis=1)


def held_out_logits(run: Path, figures: Figures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits (n,) of some rows by a run's best weights, in full precision and with the views that ship."""
    recipe, classifier = trained_classifier(run)
    make_ready(classifier, choose_device("auto"), torch.float32)
    model = recipe.model
    batches = figures.batches(rows, pages_a_pass(model.image, model.views))
    return score(classifier, batches, model.image, model.views, torch.float32).numpy()


def join_folds(recipe: Recipe, figures: Figures, out: Path, splits: list[Split]) -> pd.DataFrame:
    """Join the predictions of all folds, with a column `fold`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    folders = [fold_folder(out, split) for split in splits]
    missing = [folder.name for folder in folders if not is_finished(folder)]
    if missing:
        raise DataError(
            f"{out} lacks {len(missing)} of {len(splits)} folds ({', '.join(missing)}): run them first"
        )
    return pd.concat(
        [
            read_fold(recipe, figures, split, folder).assign(fold=split.name)
            for split, folder in zip(splits, folders, strict=True)
        ],
        ignore_index=True,
    )


def best_epoch(recipe: Recipe, folder: Path) -> int:
    """The epoch, from 1, whose weights a finished run kept: the first of the best monitor value."""
    history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    return 1 + best_so_far(history, recipe.optimise.monitor)
