"""Counts of figures a mm²: of regions that are given, and of the tissue that a slide shows."""

import json
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pandas as pd
import pytest

from amf.bulk.area import count, read_regions
from amf.cli import main as amf
from amf.data.open_slide import open_slide
from amf.errors import DataError
from test.support.slides import write_pyramid

GLASS, PINK, PALE = (243, 242, 244), (200, 120, 170), (232, 200, 218)
MPP = 0.5


def drawn(path: Path, tissue: tuple[int, int, int, int] | None, levels: int = 1) -> Path:
    """Glass of 1800 x 1300 px with a piece of tissue, (left, top, right, bottom)."""
    canvas = np.full((1300, 1800, 3), GLASS, dtype=np.uint8)
    if tissue is not None:
        left, top, right, bottom = tissue
        canvas[top:bottom, left:right] = PALE
        canvas[top:bottom:3, left:right] = PINK
    noise = np.random.default_rng(0).integers(-2, 3, canvas.shape)
    return write_pyramid(path, (canvas + noise).clip(0, 255).astype(np.uint8), MPP, levels=levels)


def box(left: int, top: int, right: int, bottom: int, **properties: Any) -> Any:
    ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return geojson.Feature(geometry=geojson.Polygon([ring]), properties=properties)


def place(x: int, y: int, label: str) -> dict[str, Any]:
    return {"x": x, "y": y, "class": label}


def write(path: Path, *features: Any) -> Path:
    path.write_text(geojson.dumps(geojson.FeatureCollection(features)))
    return path


@pytest.mark.parametrize("levels", [1, 4])
def test_tissue_is_measured(levels: int, tmp_path: Path) -> None:
    slide = open_slide(drawn(tmp_path / "s.tif", (300, 200, 1500, 1100), levels))
    (region,) = read_regions(Path("tissue"), slide, MPP)
    assert region.name == "tissue"
    assert region.mm2 == pytest.approx(1200 * 900 * MPP**2 / 1e6, rel=0.05)
    (row,) = count([place(900, 600, "atypical"), place(5, 5, "normal")], [region])
    assert (row["figures"], row["atypical"]) == (2, 1)


def test_a_region_without_glass_is_tissue_all_over(tmp_path: Path) -> None:
    slide = open_slide(drawn(tmp_path / "s.tif", (0, 0, 1800, 1300)))
    (region,) = read_regions(Path("tissue"), slide, MPP)
    assert region.mm2 == pytest.approx(1800 * 1300 * MPP**2 / 1e6)


def test_glass_alone_has_no_area(tmp_path: Path) -> None:
    slide = open_slide(drawn(tmp_path / "s.tif", None))
    with pytest.raises(DataError, match="shows no tissue"):
        read_regions(Path("tissue"), slide, MPP)


def test_regions_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide = open_slide(drawn(tmp_path / "s.tif", (0, 0, 1800, 1300)))
    hole = geojson.Polygon(
        [
            [(0, 0), (400, 0), (400, 400), (0, 400), (0, 0)],
            [(100, 100), (100, 300), (300, 300), (300, 100), (100, 100)],
        ]
    )
    path = write(
        tmp_path / "area.geojson",
        geojson.Feature(geometry=hole, properties={"name": "hot spot"}),
        box(200, 0, 1000, 400, classification={"name": "Tumor", "color": [1, 2, 3]}),
        box(500, 500, 520, 520),
        geojson.Feature(geometry=geojson.Point((3, 4))),
        {"type": "Feature", "geometry": None},
    )
    regions = read_regions(path, slide, MPP)
    assert "area.geojson: 2 regions; passed over 3 other features" in capsys.readouterr().out
    px = {"hot spot": 400**2 - 200**2, "Tumor": 800 * 400, "all": 1000 * 400 - 100 * 200}
    assert {region.name: region.mm2 for region in regions} == {
        name: pytest.approx(area * MPP**2 / 1e6) for name, area in px.items()
    }
    places = [place(50, 50, "atypical"), place(150, 150, "normal"), place(250, 50, "normal")]
    places += [place(900, 100, "atypical"), place(1200, 5, "atypical")]
    rows = {row["region"]: row for row in count(places, regions)}
    assert [rows[name]["figures"] for name in ("hot spot", "Tumor", "all", "outside")] == [2, 2, 3, 2]
    assert [rows[name]["atypical"] for name in ("hot spot", "Tumor", "all", "outside")] == [1, 1, 2, 1]
    assert rows["Tumor"]["atypical_per_mm2"] == pytest.approx(1 / 0.08)
    assert rows["outside"]["area_mm2"] is None
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    with pytest.raises(DataError, match="holds no polygon wider than 32 µm"):
        read_regions(path, slide, MPP)


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
def test_what_amf_slide_wrote_is_counted(suffix: str, tmp_path: Path, make_bundle: Any) -> None:
    slide = drawn(tmp_path / "s.tif", (0, 0, 1800, 1300))
    others = [box(0, 0, 9, 9, classification={"name": "Stroma"}), geojson.Feature(geometry=None)]
    points = [geojson.Feature(geometry=geojson.Point((x, 100))) for x in (100, 200, 900)]
    figures, output = write(tmp_path / "f.geojson", *points, *others), tmp_path / f"o{suffix}"
    area = write(tmp_path / "area.geojson", box(0, 0, 400, 400, name="spot"))
    command = ["slide", str(slide), str(figures), "--output", str(output), "--area", str(area)]
    assert amf([*command, "--model", str(make_bundle())]) == 2  # for the one without a geometry
    table = pd.read_csv(tmp_path / "o.counts.csv")
    assert table["region"].tolist() == ["spot", "outside"]
    assert table["figures"].tolist() == [2, 1]
    assert (table["atypical"] + table["normal"]).tolist() == [2, 1]
    assert table["area_mm2"][0] == pytest.approx(0.04)


def test_an_area_that_is_none_costs_no_scoring(
    tmp_path: Path, make_bundle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = drawn(tmp_path / "s.tif", None)
    (tmp_path / "f.csv").write_text("x,y\n100,100\n")
    command = ["slide", str(slide), str(tmp_path / "f.csv"), "--output", str(tmp_path / "o.csv")]
    assert amf([*command, "--model", str(make_bundle()), "--area", str(tmp_path / "f.csv")]) == 2
    assert "f.csv is no JSON, expected GeoJSON with an area's outline" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()
