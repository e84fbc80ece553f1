"""Tables of figures: whose columns are places, classes and slides."""

from pathlib import Path

import pandas as pd
import pytest

from amf.errors import DataError
from test.support.figures import CENTRES, places, read


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
    lines = [f"{x - 25},{y - 25},50,50" for x, y in CENTRES]
    content = "\n".join(["x,y,width,height", *lines])
    with pytest.raises(
        DataError, match="x and y beside width and height, so they may be a corner: say --boxes size"
    ):
        read(tmp_path / "a.csv", content)
    assert places(read(tmp_path / "a.csv", boxes="size")) == CENTRES


def test_a_table_of_several_slides_and_classes(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"x": [x for x, _ in CENTRES], "y": [y for _, y in CENTRES], "label": ["AMF", "normal"] * 6}
    )
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
