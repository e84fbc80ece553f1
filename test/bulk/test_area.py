"""Counts of figures a mm²: of regions that are given, and of the tissue that a slide shows."""

from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pandas as pd
import pytest

from amf.bulk.area import count, read_regions
from amf.cli import main as amf
from amf.data.open_slide import open_slide
from test.support.fixtures import Capture, Make
from test.support.slides import write_pyramid

GLASS, PINK, PALE = (243, 242, 244), (200, 120, 170), (232, 200, 218)
MPP = 0.5
PART, WHOLE = (300, 200, 1500, 1100), (0, 0, 1800, 1300)


def drawn(path: Path, tissue: tuple[int, int, int, int] = (0, 0, 0, 0), levels: int = 1) -> Path:
    """Glass of 1800 x 1300 px with a piece of tissue, (left, top, right, bottom)."""
    canvas = np.full((1300, 1800, 3), GLASS, dtype=np.uint8)
    left, top, right, bottom = tissue
    canvas[top:bottom, left:right] = PALE
    canvas[top:bottom:3, left:right] = PINK
    noise = np.random.default_rng(0).integers(-2, 3, canvas.shape)
    return write_pyramid(path, (canvas + noise).clip(0, 255).astype(np.uint8), MPP, levels=levels)


def box(left: int, top: int, right: int, bottom: int, **properties: Any) -> Any:
    ring = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return geojson.Feature(geometry=geojson.Polygon([ring]), properties=properties)


def write(path: Path, *features: Any) -> Path:
    path.write_text(geojson.dumps(geojson.FeatureCollection(features)))
    return path


@pytest.mark.parametrize(("tissue", "levels", "within"), [(PART, 1, 0.05), (PART, 4, 0.05), (WHOLE, 1, 1e-6)])
def test_tissue_is_measured(
    tissue: tuple[int, int, int, int], levels: int, within: float, tmp_path: Path
) -> None:
    slide = open_slide(drawn(tmp_path / "s.tif", tissue, levels))
    (region,) = read_regions(Path("tissue"), slide, MPP)
    left, top, right, bottom = tissue
    assert region.name == "tissue"
    assert region.mm2 == pytest.approx((right - left) * (bottom - top) * MPP**2 / 1e6, rel=within)
    figures = [{"x": 900, "y": 600, "class": "atypical"}, {"x": 5, "y": 5, "class": "normal"}]
    (row,) = count(figures, [region])
    assert (row["figures"], row["atypical"]) == (2, 1)


def test_regions_of_a_file(tmp_path: Path, capsys: Capture) -> None:
    slide = open_slide(drawn(tmp_path / "s.tif", WHOLE))
    outer = [(0, 0), (400, 0), (400, 400), (0, 400), (0, 0)]
    hole = geojson.Polygon([outer, [(100, 100), (100, 300), (300, 300), (300, 100), (100, 100)]])
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
    mm2 = {name: pytest.approx(area * MPP**2 / 1e6) for name, area in px.items()}
    assert {region.name: region.mm2 for region in regions} == mm2
    places = [(50, 50, "atypical"), (150, 150, "normal"), (250, 50, "normal")]
    places += [(900, 100, "atypical"), (1200, 5, "atypical")]
    counted = count([{"x": x, "y": y, "class": label} for x, y, label in places], regions)
    rows = {row["region"]: row for row in counted}
    assert [rows[name]["figures"] for name in ("hot spot", "Tumor", "all", "outside")] == [2, 2, 3, 2]
    assert [rows[name]["atypical"] for name in ("hot spot", "Tumor", "all", "outside")] == [1, 1, 2, 1]
    assert rows["Tumor"]["atypical_per_mm2"] == pytest.approx(1 / 0.08)
    assert rows["outside"]["area_mm2"] is None


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
def test_what_amf_slide_wrote_is_counted(suffix: str, tmp_path: Path, make_bundle: Make) -> None:
    slide = drawn(tmp_path / "s.tif", WHOLE)
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


def test_an_area_that_is_none_costs_no_scoring(tmp_path: Path, make_bundle: Make, capsys: Capture) -> None:
    slide = drawn(tmp_path / "s.tif")
    (tmp_path / "f.csv").write_text("x,y\n100,100\n")
    write(tmp_path / "empty.geojson")
    command = ["slide", str(slide), str(tmp_path / "f.csv"), "--output", str(tmp_path / "o.csv")]
    command += ["--model", str(make_bundle()), "--area"]
    for area, message in [
        (tmp_path / "f.csv", "f.csv is no JSON, expected GeoJSON with an area's outline"),
        (tmp_path / "empty.geojson", "holds no polygon wider than 32 µm"),
        ("tissue", "s.tif shows no tissue"),
    ]:
        assert amf([*command, str(area)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()
