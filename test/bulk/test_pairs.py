"""Tables of slides with what each needs of its own, and what a user says of all of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf.bulk.pairs import Pair, read_pairs
from amf.cli import main as amf
from amf.errors import DataError
from test.support.fixtures import Capture, Make
from test.support.slides import write_pyramid

CENTRES = [(75, 81), (225, 81), (375, 81)]


def test_what_a_row_may_say(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text(
        "Slide;Figures;Output;mpp;area\n..\\a.tif;f\\a.csv;out\\a.csv;0,25;tissue\nb.tif;b.csv;b.csv;;b.geojson\n"
    )
    assert read_pairs(table) == [
        Pair(tmp_path / "../a.tif", tmp_path / "f/a.csv", tmp_path / "out/a.csv", 0.25, Path("tissue")),
        Pair(tmp_path / "b.tif", tmp_path / "b.csv", tmp_path / "b.csv", None, tmp_path / "b.geojson"),
    ]


def with_mpp(cell: str) -> tuple[str, str]:
    return (
        f"slide,figures,output,mpp\na,b,c.csv,{cell}\n",
        f"row 1: mpp is '{cell}', expected µm/px from 0.01",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("slide,figures\na,b\n", "no column 'output'"),
        ("slide,figures,output\na,b,\n", "row 1 has an empty cell"),
        ("slide,figures,output\na,b,c.csv\nd,e,c.csv\n", "row 2: .*c.csv is written twice"),
        ("slide,figures,output\na,b,c.txt\n", "c.txt: unsupported output suffix, expected one of .geojson"),
        *map(with_mpp, ["0", "-1", "forty", "nan", "101"]),
    ],
)
def test_tables_that_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "pairs.csv")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    """A slide that does not say its resolution."""
    canvas = np.random.default_rng(0).integers(0, 256, (200, 500, 3), dtype=np.uint8)
    return write_pyramid(tmp_path / "slide.tif", canvas, None, levels=1)


def test_each_slide_has_its_own_resolution_and_area(slide: Path, tmp_path: Path, make_bundle: Make) -> None:
    (tmp_path / "f.csv").write_text("x,y\n75,81\n225,81\n375,81\n")
    rows = [("slide.tif", "f.csv", "a.csv", 0.25, "tissue"), ("slide.tif", "f.csv", "b.csv", 0.5, "")]
    table = pd.DataFrame(rows, columns=["slide", "figures", "output", "mpp", "area"])
    table.to_csv(tmp_path / "pairs.csv", index=False)
    assert amf(["slide", "--table", str(tmp_path / "pairs.csv"), "--model", str(make_bundle())]) == 0
    for name, mpp in [("a", "0.25"), ("b", "0.5")]:
        assert pd.read_csv(tmp_path / f"{name}.csv")["image"].str.endswith(f"mpp={mpp}").all()
    counts = pd.read_csv(tmp_path / "a.counts.csv")
    assert counts["area_mm2"].tolist() == [pytest.approx(200 * 500 * 0.25**2 / 1e6, abs=1e-4)]
    assert counts["figures"].tolist() == [3]
    assert not (tmp_path / "b.counts.csv").exists()


def test_classes_and_boxes_are_chosen(
    slide: Path, tmp_path: Path, make_bundle: Make, capsys: Capture
) -> None:
    annotations = [
        {"id": number, "image_id": 1, "category_id": number, "bbox": [x - 20, y - 20, x + 20, y + 20]}
        for number, (x, y) in enumerate(CENTRES)
    ]
    content = {
        "images": [{"id": 1, "file_name": "slide.tif"}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(("red", "green", "blue"))],
        "annotations": annotations,
    }
    (tmp_path / "f.json").write_text(json.dumps(content))
    command = ["slide", str(slide), str(tmp_path / "f.json"), "--output", str(tmp_path / "o.csv")]
    command += ["--mpp", "0.25", "--model", str(make_bundle())]
    assert amf(command) == 2
    assert "the categories red, green, blue, none of which names" in capsys.readouterr().err
    command += ["--class", "red", "--category", "Blue"]
    assert amf(command) == 2
    assert "say so with --boxes corners or --boxes size" in capsys.readouterr().err
    assert amf([*command, "--boxes", "corners"]) == 0
    assert "2 figures (red 1, blue 1); passed over 1 (green 1)" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "o.csv")
    assert list(zip(table["x"], table["y"], strict=True)) == [CENTRES[0], CENTRES[2]]
