"""What would be scored in silence though it is something else: regions, look-alikes, other scenes, shares."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from amf.bulk.figures.given import GivenFigures, Wanted
from amf.bulk.figures.read import read_figures
from amf.errors import DataError
from test.support.figures import places, read
from test.support.slides import write_sliderunner

MEASURED = "Image\tObject type\tClassification\tROI\tCentroid X µm\tCentroid Y µm"


def faults(given: GivenFigures) -> list[str]:
    return [figure.fault for figure in given.figures if figure.fault]


def test_regions_of_a_measurement_table(tmp_path: Path) -> None:
    rows = [
        "slide.tif\tDetection\t\tPoint\t18.75\t20.25\t",
        "slide.tif\tAnnotation\t\tPolygon\t56.25\t20.25\t300",
        "slide.tif\tAnnotation\t\tRectangle\t75\t60\t18961",
        "slide.tif\tTMA core\t\tEllipse\t75\t60\t18961",
        "slide.tif\tImage\t\t\t\t\t",
    ]
    given = read(tmp_path / "f.tsv", "\n".join([f"{MEASURED}\tArea µm^2", *rows]))
    assert places(given) == [(75, 81), (225, 81)]
    assert faults(given) == ["has 18961 µm², more than a patch: it is a region, no figure"]
    assert given.passed_over == {"QuPath tmacore": 1, "QuPath image": 1}
    without = read(tmp_path / "f.tsv", "\n".join([MEASURED, *(row.rpartition("\t")[0] for row in rows)]))
    assert places(without) == [(75, 81)]
    assert faults(without) == ["is an outline, expected a point, or its area among the columns"] * 2


def test_scenes_of_one_file_are_not_mixed(tmp_path: Path) -> None:
    rows = [
        f"slide.tif - {scene}\tDetection\tMitosis\tPoint\t18.75\t20.25" for scene in ("Scene 1", "Scene 2")
    ]
    with pytest.raises(DataError, match=r"of slide.tif - Scene 1 and of slide.tif - Scene 2: which is"):
        read(tmp_path / "f.tsv", "\n".join([MEASURED, *rows]))
    assert places(read(tmp_path / "f.tsv", "\n".join([MEASURED, rows[0]]))) == [(75, 81)]


@pytest.mark.parametrize("column", ["class", "type", "label", "Classification"])
def test_words_of_a_column_tell_look_alikes(tmp_path: Path, column: str) -> None:
    given = read(tmp_path / "f.csv", f"x,y,{column}\n75,81,mitosis\n225,81,hard negative\n375,81,\n")
    assert places(given) == [(75, 81), (375, 81)]
    assert given.passed_over == {"hard negative": 1}
    assert "label" not in given.figures[0].known


@pytest.mark.parametrize("key", ["class", "category", "type", "label", "name"])
def test_words_of_a_feature_tell_look_alikes(tmp_path: Path, key: str) -> None:
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [x, 81]}, "properties": {key: word}}
        for x, word in [(75, "Mitotic_Figure"), (225, "non-mitosis")]
    ]
    given = read(tmp_path / "f.geojson", features)
    assert places(given) == [(75, 81)]
    assert given.passed_over == {"non-mitosis": 1}


def test_a_numbered_class_is_one(tmp_path: Path) -> None:
    point = {"type": "Point", "coordinates": [75, 81]}
    numbered = [{"type": "Feature", "geometry": point, "properties": {"classification": {"name": 0}}}]
    with pytest.raises(DataError, match=r"passed over 1 \(0 1\); expected some: --class NAME"):
        read(tmp_path / "f.geojson", numbered)
    assert places(read(tmp_path / "f.geojson", numbered, classes=("0",))) == [(75, 81)]


def test_shares_of_the_image_are_no_px(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"between \(0, 0\) and \(1, 1\): expected px"):
        read(tmp_path / "f.csv", "x,y\n0.1204,0.1663\n0.3612,0.1663\n")


def test_outlines_stand_in_for_a_missing_box(tmp_path: Path) -> None:
    outline = [55, 61, 95, 61, 95, 101, 55, 101]
    content = {
        "images": [{"id": 1, "file_name": "slide.tif"}],
        "categories": [{"id": 1, "name": "mitosis"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [outline]},
            {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"counts": "aa", "size": [487, 623]}},
        ],
    }
    given = read(tmp_path / "f.json", content)
    assert places(given) == [(75, 81)]
    assert faults(given) == ["has no box of four numbers"]


def test_people_who_disagree_name_no_class(tmp_path: Path) -> None:
    path = write_sliderunner(
        tmp_path / "f.sqlite",
        [
            ("slide.tif", [(75, 81)], "Mitosis"),
            ("slide.tif", [(5, 5)], "Mitosis"),
            ("slide.tif", [], "Tumor"),
        ],
        agreed=False,
    )
    with closing(sqlite3.connect(path)) as database:
        database.execute("INSERT INTO Annotations_label VALUES (9, 2, 2, 2)")
        database.execute("INSERT INTO Annotations_coordinates VALUES (9, 'a', 1, 1, 1, 1)")
        database.commit()
    given = read_figures(path, Wanted(tmp_path / "slide.tif"))
    assert places(given) == [(75, 81)]
    assert given.passed_over == {"Mitosis / Tumor": 1, "Tumor": 1}
