"""GeoJSON of QuPath and others: which features and which of their parts are figures."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import geojson
import pytest

from amf.errors import DataError
from test.support.figures import CENTRES, UNIT, faults, feature, places, point, read, square


@pytest.mark.parametrize("form", ["array", "feature", "quoted", "gz", "zip"])
def test_every_wrapping_of_a_feature(form: str, tmp_path: Path) -> None:
    single = point(75, 81)
    path = tmp_path / "figures.txt"  # told by content, not by name
    text = json.dumps({"array": [single], "feature": single}.get(form, {**UNIT, "features": [single]}))
    if form == "gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/figures.geojson", text)
            archive.writestr("__MACOSX/a/._figures.geojson", "")
    else:
        path.write_text("\ufeff\n " + text, encoding="utf-8")
    assert places(read(path)) == [(75, 81)]


def polygon(*rings: Any) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


POINTS = [
    {"type": "Point", "coordinates": [1, 2]},
    {"type": "MultiPoint", "coordinates": [[3, 4], [5, 6]]},
]


@pytest.mark.parametrize(
    ("geometry", "centres"),
    [
        (polygon(*square(2, 1)), [(2, 1)]),
        (polygon(square(2, 1)[0][::-1]), [(2, 1)]),
        (polygon([[0, 0], [6, 0], [0, 3], [0, 0]]), [(2, 1)]),
        (polygon([[10, 10], [10, 10], [10, 10], [10, 10]]), [(10, 10)]),
        # 6 x 6 with a hole of 2 x 2 around (2, 2): (36 * 3 - 4 * 2) / 32
        (polygon(*square(3, 3, 3), *square(2, 2, 1)), [(3.125, 3.125)]),
        ({"type": "MultiPolygon", "coordinates": [square(x, y) for x, y in CENTRES]}, CENTRES),
        ({"type": "MultiPoint", "coordinates": [list(centre) for centre in CENTRES]}, CENTRES),
        ({"type": "GeometryCollection", "geometries": POINTS}, [(1, 2), (3, 4), (5, 6)]),
    ],
)
def test_each_point_and_each_polygon_is_a_figure(tmp_path: Path, geometry: Any, centres: Any) -> None:
    given = read(tmp_path / "a.geojson", feature(geometry))

    assert places(given) == [pytest.approx(centre) for centre in centres]
    features = given.collection["features"]
    assert [figure.feature for figure in given.figures] == list(range(len(features)))
    assert geojson.loads(json.dumps(given.collection)).is_valid


@pytest.mark.parametrize(
    "of_class",
    [
        "Mitosis",
        {"name": "mitotic figure", "color": [1, 2, 3]},
        {"names": ["Mitosis", "x"]},
        None,
        {"name": "AMF", "colorRGB": -1},
        '{"name": "Mitosis"}',
        "Mitosis?",
        "Mitosis: late",
    ],
)
def test_classes_that_are_figures(tmp_path: Path, of_class: Any) -> None:
    assert places(read(tmp_path / "a.geojson", [point(1, 2, of_class), point(3, 4)])) == [(1, 2), (3, 4)]


def test_other_classes_are_passed_over_and_counted(tmp_path: Path) -> None:
    others = [
        "Tumor",
        {"name": "Immune cells"},
        "Ignore*",
        "non-mitosis",
        {"names": ["Stroma", "x"]},
        "Tumor",
    ]
    content = [point(1, 2, "Mitosis"), *(point(9, 9, other) for other in others)]
    given = read(tmp_path / "a.geojson", content)

    assert places(given) == [(1, 2)]
    assert given.summary(Path("a")) == (
        "a: 1 figures (Mitosis 1); "
        "passed over 6 (Tumor 2, Immune cells 1, Ignore* 1, non-mitosis 1, Stroma: x 1)"
    )
    assert len(given.collection["features"]) == 7  # given back as they were
    assert len(read(tmp_path / "a.geojson", classes=("tumor", "Stroma: x")).figures) == 3


@pytest.mark.parametrize("key", ["class", "category", "type", "label", "name"])
def test_words_of_a_feature_tell_look_alikes(tmp_path: Path, key: str) -> None:
    content = [point(75, 81, **{key: "Mitotic_Figure"}), point(225, 81, **{key: "non-mitosis"})]
    given = read(tmp_path / "f.geojson", content)
    assert places(given) == [(75, 81)]
    assert given.passed_over == {"non-mitosis": 1}


def test_a_numbered_class_is_one(tmp_path: Path) -> None:
    numbered = [point(75, 81, {"name": 0})]
    with pytest.raises(DataError, match=r"passed over 1 \(0 1\); expected some: --class NAME"):
        read(tmp_path / "f.geojson", numbered)
    assert places(read(tmp_path / "f.geojson", numbered, classes=("0",))) == [(75, 81)]


@pytest.mark.parametrize(
    "change",
    [{"objectType": kind} for kind in ("root", "tile", "tmaCore", "tma_core", "PathTMACoreObject")]
    + [{"object_type": "PathTileObject"}, {"type": "PathRootObject"}],
)
def test_what_qupath_never_means_as_a_figure_is_passed_over(tmp_path: Path, change: dict[str, str]) -> None:
    given = read(tmp_path / "a.geojson", [point(1, 2, objectType="detection"), point(3, 4, **change)])
    assert places(given) == [(1, 2)]
    assert given.passed_over.total() == 1


def test_ids_are_kept_and_none_is_given_twice(tmp_path: Path) -> None:
    """As QuPath 0.2 writes them, an id is the object's type; others are given twice, or to many parts."""
    outlines = feature({"type": "MultiPolygon", "coordinates": [square(x, y) for x, y in CENTRES[:3]]})
    content = [
        {**point(1, 2), "id": "a"},
        {**point(3, 4), "id": "a"},
        {**point(5, 6, "Mitosis"), "id": "PathDetectionObject"},
        {**point(7, 8, "Mitosis"), "id": "PathDetectionObject"},
        {**point(9, 9), "id": "PathTileObject"},
        {**outlines, "id": "cells"},
        point(11, 12),
    ]
    given = read(tmp_path / "a.geojson", content)

    assert len(places(given)) == 8
    assert given.passed_over == {"QuPath tile": 1}
    ids = [feature["id"] for feature in given.collection["features"] if "id" in feature]
    assert ids[0] == "a"
    assert len(set(ids)) == len(ids) == 8
    assert not any(identity.startswith("Path") for identity in ids)


@pytest.mark.parametrize("inside", ["feature", "properties"])
@pytest.mark.parametrize("key", ["childObjects", "children"])
def test_children_are_read(tmp_path: Path, inside: str, key: str) -> None:
    parent = feature(polygon(*square(300, 300, 200)), "Tumor")
    (parent if inside == "feature" else parent["properties"])[key] = [point(1, 2, "Mitosis"), point(3, 4)]
    given = read(tmp_path / "a.geojson", [parent])

    assert places(given) == [(1, 2), (3, 4)]
    assert given.passed_over == {"Tumor": 1}
    assert key not in json.dumps(given.collection)


def test_a_region_among_points_is_refused_with_its_size(tmp_path: Path) -> None:
    region = feature(polygon([[0, 0], [623, 0], [623, 487], [0, 487], [0, 0]]))
    given = read(tmp_path / "a.geojson", [region, point(75, 81), feature(polygon(*square(9, 9, 64)))])

    assert places(given) == [(75, 81), (9, 9)]
    (fault,) = faults(given)
    assert fault.startswith("is 156 x 122 µm large, expected at most the 32 µm of a patch")
