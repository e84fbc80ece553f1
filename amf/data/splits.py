"""Splits of a patch table: by domain, by slide, the monitor split, and AMi-Br's published one.

Grouped splits never have figures of one slide on both sides: such figures share stain, scanner and patient,
and a model scored on them looks better than it is.
"""

import hashlib
import json
from contextlib import suppress
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

MONITOR_SHARE = 0.05

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """One division of a table's rows.

    Attributes
    ----------
    name : the fold, by number or by the domain held out.
    train, held_out : row numbers, int64, ascending, disjoint.
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
    DataError : only one domain, or a slide that belongs to two.
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
    return [_split(name, table, np.flatnonzero(table["domain"] == name)) for name in domains]


def group_kfold(table: DataFrame, folds: int, seed: int) -> list[Split]:
    """K folds stratified by label and grouped by slide (paper, section Augmentation Strategy Evaluation).

    Raises
    ------
    DataError : fewer slides or fewer figures of a class than folds, or a fold that stays empty.
    """
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
        splits.append(_split(f"fold {number} of {folds}", table, rows))
    return splits


def monitor_split(table: DataFrame, seed: int = 0) -> Split:
    """Hold 5 % of the table out to choose the checkpoint by (paper, section Data splitting).

    As in the paper, figures are drawn stratified by label and slides are not kept together: every slide
    then also trains the final model, and the monitor compares checkpoints, it does not estimate quality.

    Raises
    ------
    DataError : the table is too small for both classes on both sides.
    """
    splitter = StratifiedShuffleSplit(n_splits=1, test_size=MONITOR_SHARE, random_state=seed)
    with suppress(ValueError):  # fewer figures than classes
        split = _split("monitor", table, next(splitter.split(table, table["label"]))[1])
        if all(table["label"].iloc[side].nunique() == 2 for side in (split.train, split.held_out)):
            return split
    raise DataError(
        f"{len(table)} figures ({table['label'].sum()} AMF) are too few: a monitor split of "
        f"{MONITOR_SHARE:.0%} lacks a class on one side"
    )


def published_amibr_split(table: DataFrame, csv: Path) -> Split:
    """AMi-Br's own split: the figures listed in `csv` train, its others are held out, other data is neither.

    Figures are matched by slide and coordinates, so the split also holds for a table in which MIDOG25
    supplies the MIDOG21 part.

    Raises
    ------
    DataError : the file lists a figure that the table lacks.
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
    return Split("AMi-Br published", np.flatnonzero(train), np.flatnonzero(amibr & ~train))


def _split(name: str, table: DataFrame, held_out: NDArray[np.intp]) -> Split:
    mask = np.isin(np.arange(len(table)), held_out)
    return Split(name, np.flatnonzero(~mask), np.flatnonzero(mask))
