from pathlib import Path

import pandas as pd
import pytest

from amf.data.sources.base import Figure, table_of
from amf.data.table import (
    COLUMNS,
    SAME_FIGURE,
    SAME_PIXELS,
    combine,
    read_table,
    remove_identical,
    table_hash,
    vote_conflicts,
    write_removed,
    write_table,
)
from amf.errors import DataError
from test.support.drawn import drawn_table


def figure(image: str, **fields: object) -> Figure:
    return Figure(**{"image": image, "dataset": "A", "slide": "A/1", "label": 0, "domain": "A", **fields})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_survives_the_disk_with_its_hash(tmp_path: Path, suffix: str) -> None:
    table = table_of(
        [
            figure(
                "a.png", votes="011", label=1, tumor="NA", sublabel="AMF other|NMF metaphase"
            ),  # NA: a text
            figure("b.png", x=3, y=4, votes="", species="Human, or not"),
            figure("ü.png", votes="1101010"),  # 4/7 has no short decimal form
        ]
    )
    write_table(table, tmp_path / f"table{suffix}")
    again = read_table(tmp_path / f"table{suffix}")
    pd.testing.assert_frame_equal(again, table)
    assert table_hash(again) == table_hash(table)
    assert [path.name for path in tmp_path.iterdir()] == [f"table{suffix}"]


def test_the_hash_sees_every_column_and_the_order() -> None:
    table = drawn_table(6)
    hashes = {table_hash(table), table_hash(table.iloc[::-1])}
    for column in COLUMNS:
        changed = table.copy()
        other = {"x": 7777, "y": 7777, "label": 1 - table["label"].iloc[0], "soft_label": 0.125}
        changed.loc[0, column] = other.get(column, "other")
        hashes.add(table_hash(changed))
    assert len(hashes) == 2 + len(COLUMNS)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("label", "2", r"row 3: label is '2', expected isin\(\[0, 1\]\)"),
        ("label", "AMF", r"row 3: the label is 'AMF', expected a whole number"),
        ("label", "", r"row 3: label is empty, expected a value"),
        ("x", "1.5", r"row 3: the x is '1\.5', expected a whole number"),
        ("x", "1e30", r"row 3: the x is '1e30'"),
        ("x", "inf", r"row 3: the x is 'inf'"),
        ("soft_label", "1.5", r"row 3: soft_label is '1\.5'"),
        ("soft_label", "0.123", r"row 3: soft_label is 0\.123, expected the mean of the votes '"),
        ("votes", "1x", r"row 3: votes is '1x'"),
        ("domain", "", r"row 3: domain is ''"),
        ("image", "drawn/0000.png", r"row 3: image 'drawn/0000\.png' appears a second time"),
    ],
)
def test_a_bad_cell_is_named_with_file_and_row(tmp_path: Path, column: str, value: str, message: str) -> None:
    path = tmp_path / "table.csv"
    text = drawn_table(5).astype(object)
    text[column] = text[column].astype(str)
    text.loc[2, column] = value
    text.to_csv(path, index=False)
    with pytest.raises(DataError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_patch_table_is_one_sentence(tmp_path: Path) -> None:
    drawn_table(5).rename(columns={"label": "lable"}).to_csv(tmp_path / "lable.csv", index=False)
    drawn_table(5).assign(extra=1).to_csv(tmp_path / "extra.csv", index=False)
    (tmp_path / "nothing.csv").touch()
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    (tmp_path / "d.xls").touch()
    for name, message in {
        "lable.csv": "column 'label' is missing|unknown column 'lable'",
        "extra.csv": "unknown column 'extra'",
        "nothing.csv": "nothing.csv",
        "b.parquet": "b.parquet",
        "d.xls": "d.xls",
        "absent.csv": "no such patch table",
    }.items():
        with pytest.raises(DataError, match=message):
            read_table(tmp_path / name)


def test_an_invalid_table_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1"):
        write_table(drawn_table(5).assign(label=7), tmp_path / "table.csv")
    assert not list(tmp_path.iterdir())


def test_the_same_figure_of_two_sources_stays_once_and_the_other_is_listed() -> None:
    first = table_of([figure("a/1.png", x=1, y=2), figure("a/2.png", x=1, y=3), figure("a/3.png")])
    second = table_of(
        [
            figure("b/1.png", x=1, y=2, label=1, sublabel="AMF other|AMF other"),  # the same, labels differ
            figure("b/2.png", x=1, y=2, slide="B/1"),  # another slide
            figure("b/3.png"),  # no coordinates: cannot be matched
        ]
    )
    table, removed = combine([first, second])
    assert table["image"].tolist() == ["a/1.png", "a/2.png", "a/3.png", "b/2.png", "b/3.png"]
    assert removed["image"].tolist() == ["b/1.png"]
    assert removed["reason"].tolist() == [SAME_FIGURE]
    assert removed["detail"].tolist() == ["kept a/1.png, whose label is 0, not 1"]
    assert table["sublabel"].dropna().tolist() == ["AMF other|AMF other"], "the finer classes are not lost"
    assert first["sublabel"].isna().all(), "the tables given are left alone"


def test_combining_refuses_one_image_twice() -> None:
    with pytest.raises(DataError, match=r"row 6: image 'drawn/0000\.png' appears a second time"):
        combine([drawn_table(5), drawn_table(5)])


def test_pixel_identical_patches_stay_once_and_are_listed_beside_the_table(tmp_path: Path) -> None:
    table = drawn_table(5)
    kept, removed = remove_identical(table, ["p", "q", "p", "r", "p"])
    assert kept["image"].tolist() == table["image"].iloc[[0, 1, 3]].tolist()
    assert removed["detail"].str.startswith("kept drawn/0000.png").all()
    path = write_removed(removed, tmp_path / "table.parquet")
    assert path == tmp_path / "table.removed.csv"
    listed = pd.read_csv(path)[["image", "reason"]].to_numpy().tolist()
    assert listed == [[image, SAME_PIXELS] for image in table["image"].iloc[[2, 4]]]


def test_conflicts_are_counted_where_the_votes_have_a_majority() -> None:
    rows = [("110", 0), ("110", 1), ("10", 0), ("10", 1), ("", 1), ("000", 1)]
    table = table_of([figure(f"{i}.png", votes=votes, label=label) for i, (votes, label) in enumerate(rows)])
    assert table["soft_label"].tolist() == [2 / 3, 2 / 3, 0.5, 0.5, 1.0, 0.0]
    assert vote_conflicts(table)["image"].tolist() == ["0.png", "5.png"]
