"""From a slide and the places of its figures to classes: what `amf slide` reads, writes and refuses."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import geojson
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from amf.bulk.slides import open_work
from amf.cli import main as amf
from amf.data.open_slide import open_slide
from amf.data.patches import read_patches
from amf.model.shipped import shipped_bundle
from test.support.slides import enlarge, lay, write_pyramid, write_scn, write_sliderunner

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def noise() -> list[NDArray[np.uint8]]:
    """14 patches of smooth noise, all different."""
    generator = np.random.default_rng(3)
    small = generator.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    return [
        np.asarray(Image.fromarray(patch).resize((128, 128), Image.Resampling.BICUBIC)) for patch in small
    ]


@pytest.fixture
def slide(tmp_path: Path, noise: list[NDArray[np.uint8]]) -> Path:
    return write_pyramid(tmp_path / "s1.tif", lay(noise)[0], 0.25)


@pytest.fixture(scope="module")
def centres(noise: list[NDArray[np.uint8]]) -> list[tuple[int, int]]:
    return lay(noise)[1]


def classify(model: Path, slide: Path, figures: Path, output: Path, *more: str, code: int = 0) -> Any:
    arguments = ["slide", str(slide), str(figures), "--output", str(output), "--model", str(model), *more]
    assert amf(arguments) == code
    return json.loads(output.read_text()) if output.suffix == ".geojson" else pd.read_csv(output)


def write_csv(path: Path, centres: list[tuple[Any, Any]], **columns: list[Any]) -> Path:
    pd.DataFrame({"x": [x for x, _ in centres], "y": [y for _, y in centres], **columns}).to_csv(
        path, index=False
    )
    return path


def predicted(model: Path, patches: list[NDArray[np.uint8]], folder: Path) -> NDArray[np.float64]:
    """What `amf predict` says of the patches as PNG files."""
    folder.mkdir()
    for number, patch in enumerate(patches):
        Image.fromarray(patch).save(folder / f"{number:04}.png")
    output = folder.with_suffix(".csv")
    assert amf(["predict", str(folder), "--output", str(output), "--model", str(model)]) == 0
    return pd.read_csv(output)["confidence"].to_numpy()


# ---- items


def test_image_ids_name_the_same_pixels(
    slide: Path, centres: list[tuple[int, int]], noise: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    items = open_work(slide, write_csv(tmp_path / "f.csv", centres)).items
    patches = read_patches(slide, [item.image for item in items])
    for item, patch in zip(items, patches, strict=True):
        np.testing.assert_array_equal(patch, noise[item.number])


def test_figures_are_read_in_the_order_of_the_tiles(slide: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    centres = list(zip(*generator.integers(0, 400, (2, 200)).tolist(), strict=True))
    items = open_work(slide, write_csv(tmp_path / "f.csv", centres)).items
    assert sorted(item.number for item in items) == list(range(200))
    rows = [(item.y - 64) // 256 for item in items]  # of the tiles that the patches start in
    assert rows == sorted(rows)
    assert all(a.x <= b.x for a, b in pairwise(items) if (a.y - 64) // 256 == (b.y - 64) // 256)


# ---- resolution


def test_a_slide_without_resolution_needs_mpp(
    tmp_path: Path, noise: list[NDArray[np.uint8]], make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    canvas, centres = lay(noise)
    silent = write_pyramid(tmp_path / "silent.tif", canvas, None)
    figures, model = write_csv(tmp_path / "f.csv", centres), make_bundle()
    arguments = [
        "slide",
        str(silent),
        str(figures),
        "--output",
        str(tmp_path / "o.csv"),
        "--model",
        str(model),
    ]
    assert amf(arguments) == 2
    assert "silent.tif does not say its resolution: give it with --mpp" in capsys.readouterr().err
    assert not (tmp_path / "o.csv").exists()
    assert amf([*arguments, "--mpp", "0.25"]) == 0


def test_mpp_wins_and_says_so(
    slide: Path, centres: list[tuple[int, int]], tmp_path: Path, make_bundle: Make,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    figures, model = write_csv(tmp_path / "f.csv", centres), make_bundle()
    table = classify(model, slide, figures, tmp_path / "o.csv", "--mpp", "0.5")
    said = capsys.readouterr().out
    assert "--mpp 0.5 µm/px wins over the file's 0.25" in said
    assert "0.5 µm/px is coarser than the 0.25" in said
    assert table["image"].str.endswith(",mpp=0.5").all()


# ---- bounds: a scanner's canvas is larger than what it scanned


def test_qupath_counts_from_the_bounds_and_sliderunner_from_the_canvas(
    tmp_path: Path, centres: list[tuple[int, int]], noise: list[NDArray[np.uint8]], make_bundle: Make
) -> None:
    left, top = 300, 700
    path = write_scn(tmp_path / "s1.scn", lay(noise)[0], left, top)
    opened = open_slide(path)
    assert opened.offset == (left, top)
    assert (opened.patch(left, top, 0.25)[:64, :64] == 255).all()  # glass that was never scanned is white
    features = [geojson.Feature(geometry=geojson.Point(centre)) for centre in centres]
    (tmp_path / "f.geojson").write_text(geojson.dumps(geojson.FeatureCollection(features)))
    on_canvas = [(x + left, y + top) for x, y in centres]
    given = [tmp_path / "f.geojson", write_csv(tmp_path / "f.csv", centres)]
    given.append(write_sliderunner(tmp_path / "f.sqlite", [("s1.tif", [place], None) for place in on_canvas]))
    model = make_bundle()
    expected = predicted(model, noise, tmp_path / "patches")
    for figures in given:
        table = classify(model, path, figures, tmp_path / f"{figures.suffix[1:]}.out.csv")
        assert table["confidence"].to_numpy() == pytest.approx(expected, abs=1e-6)
        assert list(zip(table["x"], table["y"], strict=True)) == centres  # as QuPath counts
        patches = read_patches(path, table["image"].tolist())
        np.testing.assert_array_equal(np.stack(patches), np.stack(noise))
    points = classify(model, path, given[2], tmp_path / "runner.geojson")["features"]
    assert [tuple(point["geometry"]["coordinates"]) for point in points] == centres


# ---- agreement with `amf predict` on real patches


@pytest.fixture(scope="module")
def real(patches: Path) -> list[NDArray[np.uint8]]:
    files = sorted((patches / "AMi-Br").rglob("*.png"))[::150]
    return [np.array(Image.open(file).convert("RGB")) for file in files]


def square(x: float, y: float, side: float = 50) -> geojson.Polygon:
    half = side / 2
    corners = [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    return geojson.Polygon([[*corners, corners[0]]])


@pytest.mark.parametrize(("mpp", "tolerance", "on_average"), [(0.25, 0.004, 0.001), (0.125, 0.25, 0.06)])
def test_real_patches_on_a_slide_get_what_predict_gives_them(
    tmp_path: Path, real: list[NDArray[np.uint8]], mpp: float, tolerance: float, on_average: float
) -> None:
    canvas, centres = lay(real)
    factor = round(0.25 / mpp)
    path = write_pyramid(tmp_path / "real.tif", enlarge(canvas, factor) if factor > 1 else canvas, mpp)
    places = [(factor * x, factor * y) for x, y in centres]
    points = [geojson.Feature(geometry=geojson.Point(place), properties={}) for place in places]
    polygons = [geojson.Feature(geometry=square(*place), properties={}) for place in places]
    given = [write_csv(tmp_path / "figures.csv", places)]
    for name, features in [("points", points), ("polygons", polygons)]:
        given.append(tmp_path / f"{name}.geojson")
        given[-1].write_text(geojson.dumps(geojson.FeatureCollection(features)))
    expected = predicted(shipped_bundle(), real, tmp_path / "patches")
    assert len(expected) > 20

    for figures in given:
        output = tmp_path / f"{figures.stem}.out.geojson"
        answer = classify(shipped_bundle(), path, figures, output)
        found = [feature["properties"]["measurements"]["P(atypical)"] for feature in answer["features"]]
        off = np.abs(np.array(found) - expected)
        assert off.max() <= tolerance
        assert off.mean() <= on_average


# ---- GeoJSON


def uuid_of(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def test_geojson_comes_back_with_classes(
    slide: Path, centres: list[tuple[int, int]], tmp_path: Path, make_bundle: Make,
    noise: list[NDArray[np.uint8]],
) -> None:  # fmt: skip
    features = [
        {
            "type": "Feature",
            "id": uuid_of(number),
            "geometry": square(*centre) if number % 2 else geojson.Point(centre),
            "properties": {
                "objectType": "annotation" if number % 2 else "detection",
                "name": f"figure {number}",
                "isLocked": True,
                "classification": {"name": "Mitosis", "color": [1, 2, 3]},
                "measurements": {"score": number / 14},
                "metadata": {"reader": "A"},
            },
        }
        for number, centre in enumerate(centres)
    ]
    features[3]["properties"]["measurements"] = [{"name": "score", "value": 0.5}]  # before QuPath 0.4
    features[4]["properties"] = None
    tumour = {"type": "Feature", "id": uuid_of(99), "geometry": square(200, 200, 300),
              "properties": {"objectType": "tmaCore"}}  # fmt: skip
    given = {"type": "FeatureCollection", "features": [tumour, *features], "remark": "kept"}
    (tmp_path / "f.geojson").write_text(json.dumps(given))
    model = make_bundle(threshold=0.5)
    expected = predicted(model, noise, tmp_path / "patches")
    threshold = float(np.median(expected))
    bundle = json.loads((model / "bundle.json").read_text())
    assert bundle["threshold"] == 0.5

    answer = classify(model, slide, tmp_path / "f.geojson", tmp_path / "o.geojson")

    assert geojson.loads((tmp_path / "o.geojson").read_text()).is_valid
    assert answer["remark"] == "kept"
    assert answer["features"][0] == tumour
    assert threshold > 0
    for number, (before, after) in enumerate(zip(features, answer["features"][1:], strict=True)):
        assert after["id"] == before["id"]
        assert after["geometry"] == before["geometry"]
        old, new = before["properties"] or {}, after["properties"]
        changed = {"classification", "measurements", "metadata"}
        assert {k: v for k, v in new.items() if k not in changed} == {
            k: v for k, v in old.items() if k not in changed
        }
        measurements = new["measurements"]
        if number == 3:
            assert measurements[0] == {"name": "score", "value": 0.5}
            measurements = {entry["name"]: entry["value"] for entry in measurements}
        elif number != 4:
            assert measurements["score"] == number / 14
        assert measurements["P(atypical)"] == pytest.approx(expected[number], abs=1e-6)
        atypical = measurements["P(atypical)"] >= 0.5
        assert new["classification"]["name"] == f"{'Atypical' if atypical else 'Normal'} mitotic figure"
        assert len(new["classification"]["color"]) == 3
        assert new["metadata"]["Model"] == "bundle"
        assert len(new["metadata"]["Bundle SHA-256"]) == 64
        assert new["metadata"].get("reader") == old.get("metadata", {}).get("reader")


def test_points_of_a_multipoint_are_a_figure_each(
    slide: Path, centres: list[tuple[int, int]], tmp_path: Path, make_bundle: Make,
    noise: list[NDArray[np.uint8]],
) -> None:  # fmt: skip
    several = geojson.Feature(geometry=geojson.MultiPoint(centres[:3]), id="m", properties={"name": "n"})
    single = geojson.Feature(geometry=geojson.MultiPoint(centres[3:4]), id="s")
    (tmp_path / "f.geojson").write_text(geojson.dumps(geojson.FeatureCollection([several, single])))
    model = make_bundle()
    expected = predicted(model, noise[:4], tmp_path / "patches")
    features = classify(model, slide, tmp_path / "f.geojson", tmp_path / "o.geojson")["features"]
    found = [feature["properties"]["measurements"]["P(atypical)"] for feature in features]
    assert found == pytest.approx(expected, abs=1e-6)
    assert [tuple(feature["geometry"]["coordinates"]) for feature in features[:3]] == centres[:3]
    assert [feature["properties"].get("name") for feature in features] == ["n"] * 3 + [None]
    assert len({feature["id"] for feature in features}) == 4
    assert features[3]["id"] == "s" or features[3]["geometry"]["type"] == "Point"


def test_given_is_used_and_refused(
    slide: Path, centres: list[tuple[int, int]], tmp_path: Path, make_bundle: Make,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    features: list[Any] = [
        geojson.Feature(geometry=geojson.Point(centres[0]), id="good"),
        {"type": "Feature", "id": "outside", "geometry": {"type": "Point", "coordinates": [-5, 3]}},
        {
            "type": "Feature",
            "id": "line",
            "geometry": {"type": "LineString", "coordinates": [[0, 0], [1, 1]]},
        },
        {"type": "Feature", "id": "null", "geometry": None},
        {"type": "Feature", "id": "text", "geometry": {"type": "Point", "coordinates": ["a", 3]}},
        {"type": "Feature", "id": "short", "geometry": {"type": "Point", "coordinates": []}},
        {"type": "Feature", "id": "empty", "geometry": {"type": "Polygon", "coordinates": []}},
        "no feature",
    ]
    (tmp_path / "f.geojson").write_text(json.dumps(features))
    model = make_bundle()
    answer = classify(model, slide, tmp_path / "f.geojson", tmp_path / "o.geojson", code=2)

    faults = pd.read_csv(tmp_path / "o.errors.csv")
    assert len(faults) == 7
    assert "lies outside" in faults["error"].str.cat()
    assert (
        "'LineString', expected Point" in faults["error"].str.cat()
        or "LineString" in faults["error"].str.cat()
    )
    assert "7 of 8 figures could not be scored" in capsys.readouterr().err
    assert [feature["id"] for feature in answer["features"]] == [
        "good", "outside", "line", "null", "text", "short", "empty"
    ]  # fmt: skip
    assert answer["features"][1:] == features[1:7]
    table = classify(model, slide, tmp_path / "f.geojson", tmp_path / "t.csv", code=2)
    assert table["id"].tolist() == ["good"]


def test_a_table_that_was_written_can_be_read_again(
    slide: Path, centres: list[tuple[int, int]], tmp_path: Path, make_bundle: Make
) -> None:
    model = make_bundle()
    first = classify(model, slide, write_csv(tmp_path / "f.csv", centres), tmp_path / "a.csv")
    second = classify(model, slide, tmp_path / "a.csv", tmp_path / "b.csv")
    pd.testing.assert_frame_equal(first, second)
