"""From a slide and the places of its figures to classes: what `amf slide` reads, writes and refuses."""

import json
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from amf.cli import main as amf
from amf.data.open_slide import open_slide
from amf.data.patches import read_patches
from amf.model.shipped import shipped_bundle
from test.support.bundles import confidences
from test.support.figures import square
from test.support.fixtures import Capture, Make
from test.support.slides import enlarge, lay, smooth_noise, write_pyramid, write_scn, write_sliderunner

NOISE = smooth_noise(14)
CANVAS, CENTRES = lay(NOISE)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_pyramid(tmp_path / "s1.tif", CANVAS, 0.25)


def classify(model: Path, slide: Path, figures: Path, output: Path, *more: str, code: int = 0) -> Any:
    arguments = ["slide", str(slide), str(figures), "--output", str(output), "--model", str(model), *more]
    assert amf(arguments) == code
    return json.loads(output.read_text()) if output.suffix == ".geojson" else pd.read_csv(output)


def write_csv(path: Path, centres: list[tuple[int, int]] = CENTRES) -> Path:
    pd.DataFrame(centres, columns=["x", "y"]).to_csv(path, index=False)
    return path


def write_features(path: Path, features: list[Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


# ---- resolution


def test_a_slide_without_resolution_needs_mpp(tmp_path: Path, make_bundle: Make, capsys: Capture) -> None:
    silent = write_pyramid(tmp_path / "silent.tif", CANVAS, None)
    given = ["slide", str(silent), str(write_csv(tmp_path / "f.csv")), "--output", str(tmp_path / "o.csv")]
    given += ["--model", str(make_bundle())]
    assert amf(given) == 2
    assert "silent.tif does not say its resolution: give it with --mpp" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()
    assert amf([*given, "--mpp", "0.25"]) == 0


def test_mpp_wins_and_says_so(slide: Path, tmp_path: Path, make_bundle: Make, capsys: Capture) -> None:
    figures = write_csv(tmp_path / "f.csv")
    table = classify(make_bundle(), slide, figures, tmp_path / "o.csv", "--mpp", "0.5")
    said = capsys.readouterr().out
    assert "--mpp 0.5 µm/px wins over the file's 0.25" in said
    assert "0.5 µm/px is coarser than the 0.25" in said
    assert table["image"].str.endswith(",mpp=0.5").all()


# ---- bounds: a scanner's canvas is larger than what it scanned


def test_qupath_counts_from_the_bounds_and_sliderunner_from_the_canvas(
    tmp_path: Path, make_bundle: Make
) -> None:
    left, top = 300, 700
    path = write_scn(tmp_path / "s1.scn", CANVAS, left, top)
    opened = open_slide(path)
    assert opened.offset == (left, top)
    assert (opened.patch(left, top, 0.25)[:64, :64] == 255).all()  # glass that was never scanned is white
    points = [geojson.Feature(geometry=geojson.Point(centre)) for centre in CENTRES]
    given = [write_features(tmp_path / "f.geojson", points), write_csv(tmp_path / "f.csv")]
    spots = [("s1.tif", [(x + left, y + top)], None) for x, y in CENTRES]
    given.append(write_sliderunner(tmp_path / "f.sqlite", spots))
    model = make_bundle()
    expected = confidences(model, NOISE)
    for figures in given:
        table = classify(model, path, figures, tmp_path / f"{figures.suffix[1:]}.out.csv")
        assert table["confidence"].to_numpy() == pytest.approx(expected, abs=1e-6)
        assert list(zip(table["x"], table["y"], strict=True)) == CENTRES  # as QuPath counts
        np.testing.assert_array_equal(read_patches(path, table["image"].tolist()), NOISE)
    answers = classify(model, path, given[2], tmp_path / "runner.geojson")["features"]
    assert [tuple(answer["geometry"]["coordinates"]) for answer in answers] == CENTRES


# ---- agreement with patches of their own


@pytest.fixture(scope="module")
def real(patches: Path) -> list[NDArray[np.uint8]]:
    files = sorted((patches / "AMi-Br").rglob("*.png"))[::150]
    return [np.array(Image.open(file).convert("RGB")) for file in files]


@pytest.mark.parametrize(("mpp", "tolerance", "on_average"), [(0.25, 0.004, 0.001), (0.125, 0.25, 0.06)])
def test_real_patches_on_a_slide_get_what_they_get_alone(
    tmp_path: Path, real: list[NDArray[np.uint8]], mpp: float, tolerance: float, on_average: float
) -> None:
    canvas, centres = lay(real)
    factor = round(0.25 / mpp)
    path = write_pyramid(tmp_path / "real.tif", enlarge(canvas, factor) if factor > 1 else canvas, mpp)
    figures = write_csv(tmp_path / "figures.csv", [(factor * x, factor * y) for x, y in centres])
    answer = classify(shipped_bundle(), path, figures, tmp_path / "out.csv")
    off = np.abs(answer["confidence"].to_numpy() - confidences(shipped_bundle(), real))
    assert len(off) > 20
    assert off.max() <= tolerance
    assert off.mean() <= on_average


# ---- GeoJSON


def test_geojson_comes_back_with_classes(slide: Path, tmp_path: Path, make_bundle: Make) -> None:
    features: list[Any] = [
        {
            "type": "Feature",
            "id": f"00000000-0000-4000-8000-{number:012}",
            "geometry": {"type": "Polygon", "coordinates": square(*centre, 25)}
            if number % 2
            else geojson.Point(centre),
            "properties": {
                "objectType": "annotation" if number % 2 else "detection",
                "name": f"figure {number}",
                "isLocked": True,
                "classification": {"name": "Mitosis", "color": [1, 2, 3]},
                "measurements": {"score": number / 14},
                "metadata": {"reader": "A"},
            },
        }
        for number, centre in enumerate(CENTRES)
    ]
    features[3]["properties"]["measurements"] = [{"name": "score", "value": 3 / 14}]  # before QuPath 0.4
    features[4]["properties"] = None
    core = geojson.Feature("core", geojson.Point((200, 200)), {"objectType": "tmaCore"})
    given = {"type": "FeatureCollection", "features": [core, *features], "remark": "kept"}
    (tmp_path / "f.geojson").write_text(json.dumps(given))
    model = make_bundle(threshold=0.5)
    expected = confidences(model, NOISE)

    answer = classify(model, slide, tmp_path / "f.geojson", tmp_path / "o.geojson")

    assert geojson.loads((tmp_path / "o.geojson").read_text()).is_valid
    assert answer["remark"] == "kept"
    assert answer["features"][0] == core
    for number, (before, after) in enumerate(zip(features, answer["features"][1:], strict=True)):
        assert (after["id"], after["geometry"]) == (before["id"], before["geometry"])
        old, new = before["properties"] or {}, after["properties"]
        changed = {"classification", "measurements", "metadata"}
        kept = [{key: value for key, value in own.items() if key not in changed} for own in (old, new)]
        assert kept[0] == kept[1]
        measurements = new["measurements"]
        if number == 3:
            measurements = {entry["name"]: entry["value"] for entry in measurements}
        assert measurements.get("score") == (number / 14 if number != 4 else None)
        assert measurements["P(atypical)"] == pytest.approx(expected[number], abs=1e-6)
        atypical = measurements["P(atypical)"] >= 0.5
        assert new["classification"]["name"] == f"{'Atypical' if atypical else 'Normal'} mitotic figure"
        assert len(new["classification"]["color"]) == 3
        assert new["metadata"]["Model"] == "bundle"
        assert len(new["metadata"]["Bundle SHA-256"]) == 64
        assert new["metadata"].get("reader") == old.get("metadata", {}).get("reader")


def test_given_is_used_and_refused(slide: Path, tmp_path: Path, make_bundle: Make, capsys: Capture) -> None:
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    features: list[Any] = [
        {"type": "Feature", "id": "good", "geometry": {"type": "Point", "coordinates": CENTRES[0]}},
        {"type": "Feature", "id": "outside", "geometry": {"type": "Point", "coordinates": [-5, 3]}},
        {"type": "Feature", "id": "line", "geometry": line},
        {"type": "Feature", "id": "null", "geometry": None},
        {"type": "Feature", "id": "text", "geometry": {"type": "Point", "coordinates": ["a", 3]}},
        {"type": "Feature", "id": "short", "geometry": {"type": "Point", "coordinates": []}},
        {"type": "Feature", "id": "empty", "geometry": {"type": "Polygon", "coordinates": []}},
        "no feature",
    ]
    (tmp_path / "f.geojson").write_text(json.dumps(features))
    model = make_bundle()
    answer = classify(model, slide, tmp_path / "f.geojson", tmp_path / "o.geojson", code=2)

    faults = pd.read_csv(tmp_path / "o.errors.csv")["error"]
    assert len(faults) == 7
    assert faults.str.contains("lies outside").sum() == 1
    assert faults.str.contains("LineString").sum() == 1
    assert "7 of 8 figures could not be scored" in capsys.readouterr().err
    assert [feature["id"] for feature in answer["features"]] == [own["id"] for own in features[:7]]
    assert answer["features"][1:] == features[1:7]
    table = classify(model, slide, tmp_path / "f.geojson", tmp_path / "t.csv", code=2)
    assert table["id"].tolist() == ["good"]


def test_a_table_that_was_written_can_be_read_again(slide: Path, tmp_path: Path, make_bundle: Make) -> None:
    model = make_bundle()
    first = classify(model, slide, write_csv(tmp_path / "f.csv"), tmp_path / "a.csv")
    second = classify(model, slide, tmp_path / "a.csv", tmp_path / "b.csv")
    pd.testing.assert_frame_equal(first, second)
