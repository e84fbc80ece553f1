"""Splits of a patch table: by domain, by slide, the monitor split, and AMi-Br's published one.

Grouped splits never have figures of one slide on both sides: such figures share stain, scanner and patient,
and a model scored on them looks better than it is.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.model_selection import StratifiedGroupKFold, StratifiedShuffleSplit

from amf.data.loading import read_records
from amf.data.sources.amibr import amibr_slide
from amf.data.sources.base import whole
from amf.errors import DataError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """One division of a table's rows.

    Attributes
    ----------
    name: the fold, by number or by the domain held out.
    train, held_out: row numbers, int64, ascending, disjoint.
    """

    name: str
    train: Rows
    held_out: Rows

    @property
    def digest(self) -> str:
        """SHA-256 of the rows on either side, which tells two splits of one table apart."""
        return hashlib.sha256(json.dumps([self.train.tolist(), self.held_out.tolist()]).encode()).hexdigest()


def leave_one_domain_out(table: DataFrame) -> list[Split]:
    """One split per domain, in alphabetical order, that holds it out (paper, section Data splitting).

    Raises
    ------
    DataError: only one domain, or a slide that belongs to two.
    """
    domains = sorted(table["domain"].unique())
    if len(domains) < 2:
        raise DataError(
            f"leaving one domain out needs at least two domains, the table has only {domains}: give its data "
            "recipe the columns or constants of tumor, scanner, origin and species, or of domain, or run "
            "`amf final`, which holds slides out"
        )
    spread = table.groupby("slide")["domain"].nunique()
    if (spread > 1).any():
        raise DataError(
            f"slide {spread.idxmax()!r} belongs to {spread.max()} domains, expected one domain a slide"
        )
    held_out = [np.asarray(table["domain"] == domain) for domain in domains]
    return [_split(name, mask) for name, mask in zip(domains, held_out, strict=True)]


def group_kfold(table: DataFrame, folds: int, seed: int) -> list[Split]:
    """K folds stratified by label and grouped by slide (paper, section Augmentation Strategy Evaluation).

    Raises
    ------
    DataError: fewer slides or fewer figures of a class than folds, or a fold that stays empty.
    """
    if folds < 2:
        raise DataError(f"{folds} folds, expected at least 2")
    slides, rarest = table["slide"].nunique(), int(np.bincount(table["label"], minlength=2).min())
    if slides < folds or rarest < folds:
        raise DataError(
            f"{folds} folds need at least {folds} slides and {folds} figures of each class; "
            f"the table has {slides} slides and {rarest} figures of the rarer class"
        )
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    splits = []
    for number, (_, rows) in enumerate(splitter.split(table, table["label"], table["slide"]), start=1):
        if not len(rows):
            raise DataError(f"fold {number} of {folds} is empty: {slides} slides are too few or too unequal")
        splits.append(_split(f"fold {number} of {folds}", _mask(table, rows)))
    return splits


def monitor_split(table: DataFrame, fraction: float = 0.05, seed: int = 0) -> Split:
    """Hold a share of the table out to choose the checkpoint by (paper, section Data splitting: 95 % / 5 %).

    As in the paper, figures are drawn stratified by label and slides are not kept together: every slide
    then also trains the final model, and the monitor compares checkpoints, it does not estimate quality.

    Raises
    ------
    DataError: `fraction` is not between 0 and 0.5, or the table is too small for both classes on both sides.
    """
    if not 0 < fraction <= 0.5:
        raise DataError(
            f"the monitor split holds out a fraction of {fraction}, expected above 0 and at most 0.5"
        )
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    try:
        rows = next(splitter.split(table, table["label"]))[1]
    except ValueError as error:
        raise DataError(
            f"{len(table)} figures are too few for a monitor split of {fraction:.0%}: {error}"
        ) from None
    split = _split(f"monitor {fraction:.0%}", _mask(table, rows))
    for side in (split.train, split.held_out):
        if table["label"].iloc[side].nunique() < 2:
            raise DataError(
                f"a monitor split of {fraction:.0%} of {len(table)} figures lacks a class on one side"
            )
    return split


def published_amibr_split(table: DataFrame, csv: Path) -> Split:
    """AMi-Br's own split: the figures listed in `csv` train, its others are held out, other data is neither.

    Figures are matched by slide and coordinates, so the split also holds for a table in which MIDOG25
    supplies the MIDOG21 part.

    Raises
    ------
    DataError: the file lists a figure that the table lacks, all of AMi-Br or none, or part of a slide.
    """
    listed = {}
    for place, row in read_records(csv, ["slide", "dataset", "x", "y"]):
        try:
            listed[(amibr_slide(row["dataset"], row["slide"]), whole(row["x"]), whole(row["y"]))] = place
        except DataError as fault:
            raise DataError(f"{place}: {fault}") from None
    amibr = table["slide"].str.startswith(("MIDOG21/", "TUPAC16/")).to_numpy()
    places = list(table[["slide", "x", "y"]].itertuples(index=False, name=None))
    train = np.array([place in listed for place in places])
    here = set(places)
    absent = [place for figure, place in listed.items() if figure not in here]
    if absent:
        raise DataError(
            f"{absent[0]}: figure not in the table; {len(absent)} of {len(listed)} listed are missing"
        )
    if not (amibr & ~train).any():
        raise DataError(f"{csv}: lists every AMi-Br figure of the table, so none is left to hold out")
    if not train.any():
        raise DataError(f"{csv}: lists no figure to train on")
    shared = set(table["slide"][train]) & set(table["slide"][amibr & ~train])
    if shared:
        raise DataError(f"{csv}: slide {min(shared)!r} is on both sides ({len(shared)} such slides)")
    return Split("AMi-Br published", np.flatnonzero(train), np.flatnonzero(amibr & ~train))


def _mask(table: DataFrame, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask = np.zeros(len(table), dtype=bool)
    mask[rows] = True
    return mask


def _split(name: str, held_out: NDArray[np.bool_]) -> Split:
    return Split(name, np.flatnonzero(~held_out), np.flatnonzero(held_out))
