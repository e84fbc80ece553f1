"""What TIAToolbox writes: its AnnotationStore and its GeoJSON, on a canvas larger than the scan."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely

from amf.bulk.slides import open_work
from amf.cli import main as amf
from amf.errors import DataError
from test.support.figures import faults, places, point, read
from test.support.fixtures import Make
from test.support.slides import write_scn
from test.support.stores import detections, write_store

CENTRES = [(75, 81), (225.5, 81), (375, 231)]


@pytest.mark.parametrize("compression", ["zlib", None])
def test_points_and_outlines_of_a_store(compression: str | None, tmp_path: Path) -> None:
    others = [
        (shapely.box(500, 220, 550, 242), {"type": "Mitotic figure"}),
        (shapely.Point(9, 9), {"type": "Nucleus"}),
        (shapely.box(0, 0, 600, 480), {"type": "mitosis"}),
        (shapely.MultiPoint([(525, 81), (525, 381)]), {"class": "AMF", "probability": 0.5}),
    ]
    given = read(write_store(tmp_path / "s.db", [*detections(CENTRES), *others], compression))
    assert places(given) == [*CENTRES, (525, 231), (525, 81), (525, 381)]
    assert given.passed_over == {"Nucleus": 1}
    assert given.taken == {"Mitotic_Figure": 3, "Mitotic figure": 1, "AMF": 2}
    assert faults(given) == [
        "is 150 x 120 µm large, expected at most the 32 µm of a patch: it is a region, no figure"
    ]
    assert given.on_canvas
    assert len({figure.known["id"] for figure in given.figures}) == len(given.figures)


def test_numbered_types_are_taken_by_name_alone(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.db", [*detections(CENTRES, 0), *detections([(5, 5)], 1)])
    with pytest.raises(
        DataError, match=r"0 figures; passed over 4 \(0 3, 1 1\); expected some: --class NAME"
    ):
        read(path)
    assert places(read(path, classes=("0",))) == CENTRES


def test_a_damaged_annotation_is_listed(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.db", [*detections(CENTRES), (shapely.box(0, 0, 9, 9), {})])
    with sqlite3.connect(path) as database:
        database.execute("UPDATE annotations SET geometry = ? WHERE id = 4", (b"no geometry",))
        database.execute("UPDATE annotations SET properties = 'none' WHERE id = 1")
    given = read(path)
    assert places(given) == CENTRES[1:]
    assert [fault.split(":")[0] for fault in faults(given)] == ["is damaged"] * 2
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE metadata")
    with pytest.raises(DataError, match="no database of SlideRunner or TIAToolbox: no such table: metadata"):
        read(path)


def toolbox_json(name: Any, centres: Any = CENTRES) -> list[dict[str, Any]]:
    classification = {"name": name, "color": [31, 119, 180]}
    own = {"objectType": "detection", "name": name, "class_value": 0}
    return [
        {**point(x, y, classification, probability=0.99), "id": f"detection_{number}", **own}
        for number, (x, y) in enumerate(centres)
    ]


def test_the_tools_geojson(tmp_path: Path) -> None:
    given = read(
        tmp_path / "s.json", {"type": "FeatureCollection", "features": toolbox_json("Mitotic_Figure")}
    )
    assert places(given) == CENTRES
    assert given.on_canvas
    stored = [{**feature, "properties": {"type": "Nucleus"}} for feature in toolbox_json(0)]
    for content, passed_over in [(toolbox_json(0), "0 3"), (stored, "Nucleus 3")]:  # stored: saved as GeoJSON
        with pytest.raises(DataError, match=rf"passed over 3 \({passed_over}\)"):
            read(tmp_path / "s.json", content)


@pytest.mark.parametrize("kind", ["store", "json"])
def test_places_count_from_the_canvas_and_answers_as_qupath_counts(
    kind: str, tmp_path: Path, make_bundle: Make
) -> None:
    left, top = 300, 700
    canvas = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    slide, path = write_scn(tmp_path / "slide.scn", canvas, left, top), tmp_path / kind
    on_canvas = [(x + left, y + top) for x, y in CENTRES]
    if kind == "store":
        write_store(path, detections(on_canvas))
    else:
        path.write_text(json.dumps(toolbox_json("Mitotic_Figure", on_canvas)))
    work = open_work(slide, path)
    patches = {item.number: item.read()[0] for item in work.items}
    np.testing.assert_array_equal(patches[0], canvas[81 - 64 : 81 + 64, 75 - 64 : 75 + 64])
    output = tmp_path / "answers.geojson"
    assert amf(["slide", str(slide), str(path), "--output", str(output), "--model", str(make_bundle())]) == 0
    features = json.loads(output.read_text())["features"]
    assert [tuple(feature["geometry"]["coordinates"]) for feature in features] == CENTRES
    assert [feature["id"] for feature in features] == [figure.known["id"] for figure in work.figures.figures]
