"""Recipes × folds: run those that are missing, each in a folder of its own, and join their predictions."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from pandas import DataFrame

from amf.data.figures import Figures
from amf.data.loading import read_json
from amf.data.splits import Split, monitor_split
from amf.errors import DataError, RecipeError
from amf.experiments.export import trained_classifier
from amf.experiments.record import write_csv
from amf.files import write_text
from amf.inference.predict import pages_a_pass, score
from amf.inference.ready import make_ready
from amf.model.device import choose_device
from amf.model.digest import file_digest
from amf.training.learner import remove_checkpoints
from amf.training.loop import HISTORY, best_so_far, fit
from amf.training.recipe import Recipe, override, read_recipe

PREDICTIONS, FOLD_RECORD = "predictions.csv", "fold.json"


def slug(name: str) -> str:
    """A name fit for a folder: lower case, letters, digits and dots, hyphens for the rest."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.").lower()


@dataclass(frozen=True)
class CrossValidation:
    """One recipe on every fold of a table.

    Attributes
    ----------
    name : of the member, variant or cell; recipe : what is trained.
    splits : the folds, in their order; folder : holds a folder for each of them.
    seed_by_fold : whether the seed grows with the fold's number, so that weights and draws differ.
    """

    name: str
    recipe: Recipe
    splits: Sequence[Split]
    folder: Path
    seed_by_fold: bool = False

    def recipe_in(self, fold: int) -> Recipe:
        """The recipe of a fold, from 0."""
        return override(self.recipe, {"optimise.seed": self.recipe.optimise.seed + fold * self.seed_by_fold})

    def folder_of(self, fold: int) -> Path:
        """The folder of a fold, from 0, named after its split."""
        return self.folder / slug(self.splits[fold].name)

    def fold_named(self, given: str) -> int:
        """A fold, from 0, by its number or by its folder's name; DataError if there is none."""
        names = [slug(split.name) for split in self.splits]
        if given.isdecimal() and int(given) < len(names):
            return int(given)
        if slug(given) not in names:
            raise DataError(
                f"--fold is {given!r}, expected 0 to {len(names) - 1}, or one of {', '.join(names)}"
            )
        return names.index(slug(given))


def run_missing(
    runs: Sequence[CrossValidation],
    figures: Figures,
    flag: str = "",
    name: str | None = None,
    fold: str | None = None,
    collect: bool = False,
) -> bool:
    """Run the folds that are not finished, each resumable; where name or fold are given, those alone.

    Parameters
    ----------
    flag : what names a run on the command line, as --member; name : what it says; fold : what --fold says.
    collect : run nothing.

    Returns
    -------
    Whether this process joins the folds now: all have run, and under a launcher it is the first.

    Raises
    ------
    DataError : there is no such fold, or a folder holds one of another recipe, table or split.
    RecipeError : there is no such run, or several have the fold.
    """
    if collect:
        return PartialState().is_main_process
    names = ", ".join(slug(run.name) for run in runs)
    chosen = [run for run in runs if name is None or slug(run.name) == slug(name)]
    if not chosen:
        raise RecipeError(f"{flag} is {name!r}, expected one of {names}")
    if fold is not None and len(chosen) > 1:
        raise RecipeError(f"--fold is one fold of one recipe, expected {flag} with one of {names} beside it")
    for run in chosen:
        folds = range(len(run.splits)) if fold is None else [run.fold_named(fold)]
        for number in folds:
            run_fold(run, number, figures)
    return not (name or fold) and PartialState().is_main_process


def run_fold(run: CrossValidation, fold: int, figures: Figures) -> None:
    """Fit on a split's training side and score its held-out side; resumes a fold that was broken off.

    The epoch is chosen on 5 % of the training side (paper, Data splitting strategy), never on what is
    held out. A finished fold is checked, not run again, and its checkpoints, gigabytes, are removed.

    Raises
    ------
    DataError : the folder holds a fold of another recipe, table or split.
    """
    split, folder, recipe = run.splits[fold], run.folder_of(fold), run.recipe_in(fold)
    counted = f"{run.name}: fold {fold + 1}/{len(run.splits)}"
    print(f"{counted}, held out: {split.name}, {len(split.held_out)} figures", flush=True)
    if not is_finished(folder):
        training = monitor_split(
            figures.table.iloc[split.train].reset_index(drop=True), seed=recipe.optimise.seed
        )
        train, monitor = split.train[training.train], split.train[training.held_out]
        fit(recipe, figures, train, monitor, folder, resume=True)
        with PartialState().main_process_first():  # under a launcher one process scores, the others wait
            if not is_finished(folder):
                rows = figures.table.iloc[split.held_out][["image", "slide", "domain", "label", "soft_label"]]
                logits = held_out_logits(folder, figures, split.held_out)
                write_csv(rows.assign(logit=logits), folder / PREDICTIONS)
                write_text(folder / FOLD_RECORD, json.dumps(_record(figures, split, folder)) + "\n")
    read_fold(run, fold, figures)
    remove_checkpoints(folder)


def is_finished(folder: Path) -> bool:
    """Whether a fold has been trained, scored and recorded."""
    return (folder / PREDICTIONS).is_file() and (folder / FOLD_RECORD).is_file()


def _record(figures: Figures, split: Split, folder: Path) -> dict[str, str]:
    """What a finished fold is of, beside its recipe: table, both sides of the split, its own predictions."""
    digest = file_digest(folder / PREDICTIONS)
    return {"table": figures.table_hash, "split": split.digest, "predictions": digest}


def held_out_logits(run: Path, figures: Figures, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logits (n,) of some rows by a run's best weights, in full precision and with the views that ship."""
    recipe, classifier = trained_classifier(run)
    make_ready(classifier, choose_device("auto"), torch.float32)
    model = recipe.model
    batches = figures.batches(rows, pages_a_pass(model.image, model.views))
    return score(classifier, batches, model.image, model.views, torch.float32).numpy()


def read_fold(run: CrossValidation, fold: int, figures: Figures) -> DataFrame:
    """The predictions of a finished fold, checked to be of this recipe, table and split.

    Returns
    -------
    One row a held-out figure: image, slide, domain, label, soft_label, logit (before temperature), tumor,
    species and fold, the split's name.

    Raises
    ------
    DataError : the fold was of another recipe, table or split, or cannot be read.
    """
    split, folder = run.splits[fold], run.folder_of(fold)
    if read_recipe(folder / "recipe.yaml") != run.recipe_in(fold):
        raise DataError(f"{folder} holds a fold of another recipe than {run.name}: choose another folder")
    found = read_json(folder / FOLD_RECORD)
    for key, value in _record(figures, split, folder).items():
        if found.get(key) != value:
            raise DataError(
                f"{folder}: {key} other than {FOLD_RECORD} records: choose another folder, or delete "
                "this one to run the fold anew"
            )
    rows = figures.table.iloc[split.held_out][["tumor", "species"]].reset_index(drop=True)
    return pd.concat([pd.read_csv(folder / PREDICTIONS), rows], axis=1).assign(fold=split.name)


def join_folds(run: CrossValidation, figures: Figures) -> DataFrame:
    """Join the predictions of all folds; raises as `read_fold`, and a DataError that lists missing folds."""
    folds = range(len(run.splits))
    missing = [run.folder_of(fold).name for fold in folds if not is_finished(run.folder_of(fold))]
    if missing:
        raise DataError(
            f"{run.folder} lacks {len(missing)} of {len(folds)} folds ({', '.join(missing)}): run them first"
        )
    return pd.concat([read_fold(run, fold, figures) for fold in folds], ignore_index=True)


def best_epoch(recipe: Recipe, folder: Path) -> int:
    """The epoch, from 1, whose weights a finished run kept: the first of the best monitor value."""
    return 1 + best_so_far(read_json(folder / HISTORY), recipe.optimise.monitor)
