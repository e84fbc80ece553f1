"""SlideRunner's SQLite databases, of any version."""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import shapely

from amf.bulk.figures.given import GivenFigure, GivenFigures, Wanted, of_slide
from amf.errors import DataError


def read_database(path: Path, wanted: Wanted) -> GivenFigures:
    """Every annotation of the slide that is not deleted and whose class is wanted, px of OpenSlide's canvas.

    A spot is a figure at its place, an outline one at its centre.

    Raises
    ------
    DataError : not such a database, or it knows other slides only.
    """
    with opened(path) as database:
        files = {uid: str(name) for uid, name in database.execute("SELECT uid, filename FROM Slides")}
        own = of_slide(files.values(), path, wanted.slide)
        classes = _classes(database)
        deleted = "deleted" if "deleted" in columns_of(database, "Annotations") else "0"
        rows = database.execute(f"SELECT uid, slide, {deleted} FROM Annotations ORDER BY uid").fetchall()
        order = "orderIdx" if "orderIdx" in columns_of(database, "Annotations_coordinates") else "uid"
        corners: dict[int, list[tuple[float, float]]] = {}
        for uid, x, y in database.execute(
            f"SELECT annoId, coordinateX, coordinateY FROM Annotations_coordinates ORDER BY annoId, {order}"
        ):
            if isinstance(x, int | float) and isinstance(y, int | float):
                corners.setdefault(uid, []).append((float(x), float(y)))
    given = GivenFigures(on_canvas=True)
    for uid, slide, is_deleted in rows:
        name, known, of_class = f"{path} annotation {uid}", {"id": str(uid)}, classes.get(uid)
        if files.get(slide) not in own:
            given.passed_over["other slides"] += 1
        elif is_deleted:
            given.passed_over["deleted"] += 1
        elif not wanted.takes(of_class):
            given.passed_over[of_class or "no class"] += 1
        elif not corners.get(uid):
            given.add(GivenFigure(name, known=known, fault="has no coordinates"))
        else:
            places = corners[uid]
            shape = shapely.Polygon(places) if len(places) > 2 else shapely.MultiPoint(places).envelope
            x, y, fault = wanted.centre_of(shape)
            given.add(GivenFigure(name, x, y, known, fault=fault), of_class)
    return given


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read only: one in use, or on a read-only share, is opened without a lock file.

    Raises
    ------
    DataError : it is damaged, or lacks a table or column that is asked for.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            yield database
    except sqlite3.Error as error:
        raise DataError(f"{path} is no database of SlideRunner or TIAToolbox: {error}") from error


def columns_of(database: sqlite3.Connection, table: str) -> set[str]:
    """The columns of a table; none where it is not there."""
    return {row[1] for row in database.execute(f"PRAGMA table_info({table})")}


def _classes(database: sqlite3.Connection) -> dict[int, str]:
    """The class of each annotation that has one: the one agreed on, else the one that most labels name.

    Where as many name another, it is of both: "Mitosis / Tumor".
    """
    if not columns_of(database, "Classes"):
        return {}
    names = {uid: str(name) for uid, name in database.execute("SELECT uid, name FROM Classes")}
    votes: dict[int, Counter[str]] = {}
    if {"annoId", "class"} <= columns_of(database, "Annotations_label"):
        for uid, number in database.execute("SELECT annoId, class FROM Annotations_label"):
            if number in names:
                votes.setdefault(uid, Counter())[names[number]] += 1
    found = {
        uid: " / ".join(name for name, count in counts.items() if count == max(counts.values()))
        for uid, counts in votes.items()
    }
    if "agreedClass" in columns_of(database, "Annotations"):
        agreed = database.execute("SELECT uid, agreedClass FROM Annotations")
        found |= {uid: names[number] for uid, number in agreed if number in names}
    return found
