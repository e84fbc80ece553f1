"""Leave-one-domain-out cross-validation (paper, Data splitting strategy and Cross-Domain Performance)."""

import re
from pathlib import Path

import pandas as pd

from amf.errors import DataError
from amf.training.data import Figures
from amf.training.experiments.folds import collect, run_fold
from amf.training.recipe import Recipe
from amf.training.splits import Split, leave_one_domain_out


def fold_folder(out: Path, split: Split) -> Path:
    """The folder of one fold, named after the domain it holds out."""
    return out / re.sub(r"[^A-Za-z0-9]+", "-", split.name).strip("-").lower()


def run_lodo(recipe: Recipe, figures: Figures, out: Path, fold: int | None = None) -> list[Path]:
    """Run all folds, or the one of that number (from 0), each resumable; return their folders.

    Raises
    ------
    DataError : there is no such fold.
    """
    splits = leave_one_domain_out(figures.table)
    if fold is not None and not 0 <= fold < len(splits):
        raise DataError(
            f"fold is {fold}, expected 0 to {len(splits) - 1}: the table has {len(splits)} domains"
        )
    chosen = splits if fold is None else [splits[fold]]
    for split in chosen:
        print(f"held out: {split.name} ({len(split.held_out)} figures)", flush=True)
        run_fold(recipe, figures, split, fold_folder(out, split))
    return [fold_folder(out, split) for split in chosen]


def out_of_fold(figures: Figures, out: Path) -> pd.DataFrame:
    """All domains' predictions, each by the network that never saw the domain."""
    return collect([fold_folder(out, split) for split in leave_one_domain_out(figures.table)])
