"""Tables of figures: whose columns are places, classes and slides."""

from pathlib import Path

import pandas as pd
import pytest

from amf.errors import DataError
from test.support.figures import CENTRES, faults, places, read

MEASURED = "Image\tObject type\tClassification\tROI\tCentroid X µm\tCentroid Y µm"


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("x,y", "{x},{y}"),
        ("X,Y", "{x}.0,{y}.0"),
        ("x;y;remark", "{x},0;{y},0;a"),
        ("\ufeff,x,y", "7,{x},{y}"),
        ("Image\tClass\tCentroid X µm\tCentroid Y µm", "slide.tif\tMitosis\t{um_x}\t{um_y}"),
        ("Image,Name,Centroid X px,Centroid Y px", "slide.tif - Series 1,,{x},{y}"),
        ("Object ID,Centroid X \u03bcm,Centroid Y \u03bcm", "a,{um_x},{um_y}"),
        ("xmin,ymin,xmax,ymax", "{left},{top},{right},{bottom}"),
    ],
)
def test_tables_of_every_tool(tmp_path: Path, header: str, row: str) -> None:
    lines = [
        row.format(x=x, y=y, um_x=x / 4, um_y=y / 4, left=x - 25, top=y - 25, right=x + 25, bottom=y + 25)
        for x, y in CENTRES
    ]
    given = read(tmp_path / "a.csv", "\r".join([header, *lines]) + "\r")
    assert places(given) == CENTRES


def test_a_corner_is_not_read_as_a_centre(tmp_path: Path) -> None:
    content = "\n".join(["x,y,width,height", *(f"{x - 25},{y - 25},50,50" for x, y in CENTRES)])
    asked = "x and y beside width and height, so they may be a corner: say --boxes size"
    with pytest.raises(DataError, match=asked):
        read(tmp_path / "a.csv", content)
    assert places(read(tmp_path / "a.csv", boxes="size")) == CENTRES


def test_a_table_of_several_slides_and_classes(tmp_path: Path) -> None:
    table = pd.DataFrame(CENTRES, columns=["x", "y"]).assign(label=["AMF", "normal"] * 6)
    table["slide"] = ["elsewhere/slide.tif"] * 8 + ["C:\\data\\s2.tif"] * 4
    table["class"] = ["Mitosis"] * 6 + ["Tumor"] * 6
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.parquet", "t.csv"):
        given = read(tmp_path / name)
        assert places(given) == CENTRES[:6]
        assert [figure.known["label"] for figure in given.figures] == [1, 0] * 3
        assert given.passed_over == {"other slides": 4, "Tumor": 2}
    assert len(read(tmp_path / "t.csv", slide="s2.tif", classes=("Tumor",)).figures) == 4


def test_cells_that_are_no_numbers_are_refused_one_by_one(tmp_path: Path) -> None:
    given = read(tmp_path / "a.csv", "x,y\n1,2\nabc,3\n,4\ninf,1\n")
    assert [bool(figure.fault) for figure in given.figures] == [False, True, True, True]


def test_shares_of_the_image_are_no_px(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"between \(0, 0\) and \(1, 1\): expected px"):
        read(tmp_path / "f.csv", "x,y\n0.1204,0.1663\n0.3612,0.1663\n")


@pytest.mark.parametrize("column", ["class", "type", "label", "Classification"])
def test_words_of_a_column_tell_look_alikes(tmp_path: Path, column: str) -> None:
    given = read(tmp_path / "f.csv", f"x,y,{column}\n75,81,mitosis\n225,81,hard negative\n375,81,\n")
    assert places(given) == [(75, 81), (375, 81)]
    assert given.passed_over == {"hard negative": 1}
    assert "label" not in given.figures[0].known


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
    rows = [f"slide.tif - Scene {number}\tDetection\tMitosis\tPoint\t18.75\t20.25" for number in (1, 2)]
    with pytest.raises(DataError, match=r"of slide.tif - Scene 1 and of slide.tif - Scene 2: which is"):
        read(tmp_path / "f.tsv", "\n".join([MEASURED, *rows]))
    assert places(read(tmp_path / "f.tsv", "\n".join([MEASURED, rows[0]]))) == [(75, 81)]
