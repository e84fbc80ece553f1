"""Splits are disjoint by slide, complete, and the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pandas import DataFrame

from amf.data.sources.base import Reading
from amf.data.splits import (
    Split,
    group_kfold,
    leave_one_domain_out,
    monitor_split,
    published_amibr_split,
)
from amf.data.table import combine
from amf.errors import DataError
from test.support.drawn import drawn_table


@st.composite
def tables(draw: st.DrawFn) -> DataFrame:
    """Random tables: few or many slides, of any sizes, with any share of AMF, in one to four domains."""
    slides = draw(st.integers(2, 30))
    table = drawn_table(
        figures=draw(st.integers(slides, 150)),
        slides=slides,
        domains=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 2**31)),
    )
    prevalence = draw(st.floats(0.05, 0.95))
    return table.assign(label=(np.random.default_rng(0).random(len(table)) < prevalence).astype(int))


def check_partition(split: Split, table: DataFrame) -> None:
    rows = np.concatenate([split.train, split.held_out])
    assert sorted(rows) == list(range(len(table))), "every row on exactly one side"
    assert len(split.train)
    assert len(split.held_out)


def slides_on_both_sides(split: Split, table: DataFrame) -> set[str]:
    return set(table["slide"].iloc[split.train]) & set(table["slide"].iloc[split.held_out])


@settings(max_examples=25, deadline=None)
@given(table=tables(), folds=st.integers(2, 5), seed=st.integers(0, 1000))
def test_no_fold_shares_a_slide(table: DataFrame, folds: int, seed: int) -> None:
    try:
        splits = group_kfold(table, folds, seed)
    except DataError:
        assume(False)
    for split in splits:
        check_partition(split, table)
        assert not slides_on_both_sides(split, table)
    held_out = np.concatenate([split.held_out for split in splits])
    assert sorted(held_out) == list(range(len(table))), "each row is held out once"


@settings(max_examples=25, deadline=None)
@given(table=tables())
def test_no_domain_shares_a_slide_with_the_others(table: DataFrame) -> None:
    assume(table["domain"].nunique() > 1)
    splits = leave_one_domain_out(table)
    assert [split.name for split in splits] == sorted(table["domain"].unique())
    for split in splits:
        check_partition(split, table)
        assert set(table["domain"].iloc[split.held_out]) == {split.name}
        assert split.name not in set(table["domain"].iloc[split.train])
        assert not slides_on_both_sides(split, table)


def test_a_slide_in_two_domains_is_refused() -> None:
    table = drawn_table(20)
    table.loc[0, "domain"] = "elsewhere"
    with pytest.raises(DataError, match=r"slide 'drawn/\d+' belongs to 2 domains"):
        leave_one_domain_out(table)
    with pytest.raises(DataError, match="at least two domains"):
        leave_one_domain_out(drawn_table(20, domains=1))


def test_the_monitor_is_five_percent_of_each_class() -> None:
    table = drawn_table(2000, slides=100)
    split = monitor_split(table, seed=3)
    check_partition(split, table)
    held_out = table["label"].iloc[split.held_out]
    assert len(held_out) == 100
    assert abs(held_out.sum() - 0.05 * table["label"].sum()) <= 1


def test_folds_keep_the_prevalence() -> None:
    table = drawn_table(2000, slides=200)
    for split in group_kfold(table, 5, seed=0):
        assert table["label"].iloc[split.held_out].mean() == pytest.approx(table["label"].mean(), abs=0.03)
        assert len(split.held_out) == pytest.approx(400, abs=40)


def test_a_seed_decides_the_split() -> None:
    table = drawn_table(300, slides=60)
    for draw in (lambda seed: group_kfold(table, 4, seed)[0], lambda seed: monitor_split(table, seed=seed)):
        np.testing.assert_array_equal(draw(1).held_out, draw(1).held_out)
        assert not np.array_equal(draw(1).held_out, draw(2).held_out)
    # Golden rows: a change of library or code that moves figures between folds must not go unseen.
    assert group_kfold(table, 4, 1)[0].held_out[:8].tolist() == [1, 2, 6, 9, 19, 20, 27, 29]
    assert monitor_split(table, seed=1).held_out[:8].tolist() == [13, 19, 60, 86, 93, 123, 140, 165]


def test_too_few_slides_or_figures_are_refused() -> None:
    with pytest.raises(DataError, match="3 folds need at least 3 slides"):
        group_kfold(drawn_table(50, slides=2), 3, 0)
    with pytest.raises(DataError, match="0 figures of the rarer class"):
        group_kfold(drawn_table(50).assign(label=0), 3, 0)
    with pytest.raises(DataError, match="lacks a class on one side"):
        monitor_split(drawn_table(100).assign(label=lambda table: (table.index < 2).astype(int)))


def test_the_published_split_of_amibr(
    shared_data: Path, published_midog25: Reading, published_amibr: DataFrame
) -> None:
    csv = shared_data / "amibr_train_split.csv"
    split = published_amibr_split(published_amibr, csv)
    check_partition(split, published_amibr)
    sides = [published_amibr.iloc[rows] for rows in (split.train, split.held_out)]
    found = [(len(side), side["label"].sum(), side["slide"].nunique()) for side in sides]
    assert found == [(2894, 648, 146), (826, 184, 56)]
    assert not slides_on_both_sides(split, published_amibr)

    # The same figures where MIDOG25 supplies the MIDOG21 part; the rest of MIDOG25 is on neither side.
    merged, _ = combine([published_midog25.table, published_amibr])
    wide = published_amibr_split(merged, csv)
    assert (len(wide.train), len(wide.held_out)) == (2894, 826)

    with pytest.raises(DataError, match=r"row 1: figure not in the table; 1 of 2894 listed are missing"):
        published_amibr_split(published_amibr.iloc[1:].reset_index(drop=True), csv)
