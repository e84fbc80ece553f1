"""SlideRunner's databases of any version."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from test.support.figures import CENTRES, places, read
from test.support.slides import write_sliderunner


@pytest.mark.parametrize(("deleted", "agreed"), [(True, True), (False, True), (True, False)])
def test_databases_of_any_version(tmp_path: Path, deleted: bool, agreed: bool) -> None:
    """Spots of two classes, an outline without a class, a region, and what is of another slide."""
    spots = [(centre, "Mitosis" if centre[1] < 381 else "Mitosislike") for centre in CENTRES]
    entries = [("slide.tif", [centre], name) for centre, name in spots]
    x, y = CENTRES[1]
    entries[1] = ("slide.tif", [(x - 9, y - 9), (x + 9, y - 9), (x + 9, y + 9), (x - 9, y + 9)], None)
    entries += [
        ("slide.tif", [(0, 0), (623, 0), (623, 487), (0, 487)], "Tumor"),
        ("other.svs", [(9, 9)], "Mitosis"),
    ]
    entries += [("slide.tif", [(5, 5)], "Mitosis")] if deleted else []
    given = read(write_sliderunner(tmp_path / "a.sqlite", entries, 1 if deleted else None, agreed))

    assert places(given) == CENTRES[:8]
    assert given.taken == {"Mitosis": 7, "no class": 1}
    expected = {"Mitosislike": 4, "Tumor": 1, "other slides": 1}
    assert given.passed_over == expected | ({"deleted": 1} if deleted else {})
    assert given.on_canvas
    assert len(read(tmp_path / "a.sqlite", classes=("Mitosislike",)).figures) == 4


def test_people_who_disagree_name_no_class(tmp_path: Path) -> None:
    entries = [
        ("slide.tif", [(75, 81)], "Mitosis"),
        ("slide.tif", [(5, 5)], "Mitosis"),
        ("slide.tif", [], "Tumor"),
    ]
    path = write_sliderunner(tmp_path / "f.sqlite", entries, agreed=False)
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO Annotations_label VALUES (9, 2, 2, 2)")
        database.execute("INSERT INTO Annotations_coordinates VALUES (9, 'a', 1, 1, 1, 1)")
        database.commit()
    given = read(path)
    assert places(given) == [(75, 81)]
    assert given.passed_over == {"Mitosis / Tumor": 1, "Tumor": 1}
