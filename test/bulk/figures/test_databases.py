"""SlideRunner's databases of any version."""

from pathlib import Path

import pytest

from test.support.figures import CENTRES, places, read
from test.support.slides import Corners, write_sliderunner


def annotations() -> list[tuple[str, Corners, str | None]]:
    """Spots of two classes, an outline without a class, a region, and what is of another slide."""
    found: list[tuple[str, Corners, str | None]] = [
        ("slide.tif", [centre], "Mitosis" if centre[1] < 381 else "Mitosislike") for centre in CENTRES
    ]
    x, y = CENTRES[1]
    found[1] = ("slide.tif", [(x - 9, y - 9), (x + 9, y - 9), (x + 9, y + 9), (x - 9, y + 9)], None)
    region = [(0, 0), (623, 0), (623, 487), (0, 487)]
    return [*found, ("slide.tif", region, "Tumor"), ("other.svs", [(9, 9)], "Mitosis")]


@pytest.mark.parametrize(("deleted", "agreed"), [(True, True), (False, True), (True, False)])
def test_databases_of_any_version(tmp_path: Path, deleted: bool, agreed: bool) -> None:
    entries = [*annotations(), *([("slide.tif", [(5, 5)], "Mitosis")] if deleted else [])]
    given = read(write_sliderunner(tmp_path / "a.sqlite", entries, 1 if deleted else None, agreed))

    assert places(given) == CENTRES[:8]
    assert given.taken == {"Mitosis": 7, "no class": 1}
    expected = {"Mitosislike": 4, "Tumor": 1, "other slides": 1}
    assert given.passed_over == expected | ({"deleted": 1} if deleted else {})
    assert given.on_canvas
    assert len(read(tmp_path / "a.sqlite", classes=("Mitosislike",)).figures) == 4
