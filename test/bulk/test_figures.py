"""Which places of a file are mitotic figures of the slide, whatever tool wrote it."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import geojson
import pandas as pd
import pytest

from amf.bulk.figures.given import Wanted, of_slide
from amf.bulk.figures.read import read_figures
from amf.errors import DataError
from test.support.slides import Corners, write_sliderunner

CENTRES = [(x, y) for y in (81, 231, 381) for x in (75, 225, 375, 525)]
UNIT = {"type": "FeatureCollection"}


def read(path: Path, content: Any = None, **options: Any) -> Any:
    """The figures of slide.tif at 0.25 µm/px in a file of that content."""
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_figures(path, Wanted(path.parent / options.pop("slide", "slide.tif"), **options))


def places(given: Any) -> list[tuple[float, float]]:
    return [(figure.x, figure.y) for figure in given.figures if not figure.fault]


def square(x: float, y: float, half: float = 10) -> list[list[list[float]]]:
    left, top, right, bottom = x - half, y - half, x + half, y + half
    return [[[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]]


def feature(geometry: dict[str, Any], of_class: Any = None, **properties: Any) -> dict[str, Any]:
    if of_class is not None:
        properties["classification"] = of_class
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def point(x: float, y: float, of_class: Any = None, **properties: Any) -> dict[str, Any]:
    return feature({"type": "Point", "coordinates": [x, y]}, of_class, **properties)


# ---- boxes and categories


def boxes(centres: Any, form: str, side: int = 50, categories: Any = None, **image: Any) -> dict[str, Any]:
    """A JSON of boxes around centres, all of the first category."""
    categories = categories or {1: "mitotic figure"}
    found = []
    for number, (x, y) in enumerate(centres, start=1):
        left, top = x - side // 2, y - side // 2
        box = [left, top, left + side, top + side] if form == "corners" else [left, top, side, side]
        found.append({"id": number, "image_id": 1, "category_id": next(iter(categories)), "bbox": box})
    return {
        "images": [{"id": 1, "file_name": "slide.tif", **image}],
        "categories": [{"id": key, "name": name} for key, name in categories.items()],
        "annotations": found,
    }


SIZE = {"width": 623, "height": 487}


@pytest.mark.parametrize(
    ("content", "options", "note"),
    [
        (boxes(CENTRES, "corners"), {}, "[left, top, right, bottom]"),
        (boxes(CENTRES, "corners", **SIZE), {}, "[left, top, right, bottom]"),
        (boxes(CENTRES, "size", **SIZE), {}, "[left, top, width, height]"),
        (boxes(CENTRES, "size"), {}, "[left, top, width, height]"),  # no box of them can be corners
        (boxes([(30, 30), (20, 40)], "size", 60, **SIZE), {}, "[left, top, width, height]"),
        (boxes([(30, 30)], "size", 60), {"boxes": "size"}, "[left, top, width, height]"),
        (boxes(CENTRES, "corners", 64, **SIZE), {"boxes": "corners"}, "[left, top, right, bottom]"),
    ],
)
def test_boxes_are_corners_or_sizes(tmp_path: Path, content: Any, options: Any, note: str) -> None:
    given = read(tmp_path / "a.json", content, **options)

    count = len(content["annotations"])
    assert places(given) == ([(30, 30), (20, 40)][:count] if count < 3 else CENTRES)
    assert given.notes == [f"{tmp_path / 'a.json'}: the boxes are read as {note}"]


def test_an_area_tells_what_a_box_is(tmp_path: Path) -> None:
    for form in ("corners", "size"):
        content = boxes([(40, 40), (60, 60)], form, 60)
        for annotation in content["annotations"]:
            annotation["area"] = 3600
        assert places(read(tmp_path / "a.json", content)) == [(40, 40), (60, 60)]


@pytest.mark.parametrize("content", [boxes([(45, 45)], "size", 60), boxes(CENTRES, "corners", 64, **SIZE)])
def test_boxes_that_do_not_tell_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(
        DataError, match=r"does not tell whether .* say so with --boxes corners or --boxes size"
    ):
        read(tmp_path / "a.json", content)


@pytest.mark.parametrize(
    "names",
    [
        {1: "mitotic figure", 2: "hard negative"},
        {0: "mitosis", 1: "non-mitosis"},
        {7: "AMF", 3: "Tumor"},
        {"a": "MITOTIC FIGURE", "b": "not mitotic figure"},
        {1: "atypical", 2: "imposter"},
    ],
)
def test_names_decide_which_category_is_taken(tmp_path: Path, names: dict[Any, str]) -> None:
    content = boxes(CENTRES, "corners", categories=names)
    for annotation in content["annotations"][8:]:
        annotation["category_id"] = list(names)[1]
    given = read(tmp_path / "a.json", content)

    first, second = names.values()
    assert places(given) == CENTRES[:8]
    assert given.taken == {first: 8}
    assert given.passed_over == {second: 4}


def test_unknown_categories_are_listed_and_chosen_by_name(tmp_path: Path) -> None:
    content = boxes(CENTRES, "corners", categories={1: "class_a", 2: "class_b"})
    with pytest.raises(
        DataError, match=r"the categories class_a, class_b, none of which names .* --category NAME"
    ):
        read(tmp_path / "a.json", content)
    assert places(read(tmp_path / "a.json", classes=("Class_A",))) == CENTRES
    content["categories"] = []
    with pytest.raises(DataError, match="has the categories 1, none"):
        read(tmp_path / "b.json", content)


def test_boxes_of_other_slides_of_no_image_and_of_regions(tmp_path: Path) -> None:
    content = boxes(CENTRES, "size", **SIZE)
    content["images"].append({"id": 2, "file_name": "other.tif", "width": 900, "height": 900})
    changes = [{"image_id": 2}, {"image_id": 9}, {"bbox": [0, 0, 400, 300]}, {"bbox": [1, 2]}]
    for annotation, change in zip(content["annotations"], changes, strict=False):
        annotation.update(change)
    given = read(tmp_path / "a.json", content)

    assert places(given) == CENTRES[4:]
    assert given.passed_over == {"other slides": 1}
    faults = [figure.fault for figure in given.figures if figure.fault]
    assert faults[0] == "is of the image 9, which is not listed"
    assert faults[1].startswith("is 100 x 75 µm large, expected at most the 32 µm of a patch")
    assert faults[2] == "has no box of four numbers"


# ---- QuPath's GeoJSON


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


@pytest.mark.parametrize(
    ("geometry", "centres"),
    [
        ({"type": "Polygon", "coordinates": square(2, 1)}, [(2, 1)]),
        ({"type": "Polygon", "coordinates": [square(2, 1)[0][::-1]]}, [(2, 1)]),
        ({"type": "Polygon", "coordinates": [[[0, 0], [6, 0], [0, 3], [0, 0]]]}, [(2, 1)]),
        ({"type": "Polygon", "coordinates": [[[10, 10], [10, 10], [10, 10], [10, 10]]]}, [(10, 10)]),
        # 6 x 6 with a hole of 2 x 2 around (2, 2): (36 * 3 - 4 * 2) / 32
        ({"type": "Polygon", "coordinates": [*square(3, 3, 3), *square(2, 2, 1)]}, [(3.125, 3.125)]),
        ({"type": "MultiPolygon", "coordinates": [square(x, y) for x, y in CENTRES]}, CENTRES),
        ({"type": "MultiPoint", "coordinates": [list(centre) for centre in CENTRES]}, CENTRES),
        (
            {"type": "GeometryCollection", "geometries": [
                {"type": "Point", "coordinates": [1, 2]},
                {"type": "MultiPoint", "coordinates": [[3, 4], [5, 6]]},
            ]},
            [(1, 2), (3, 4), (5, 6)],
        ),
    ],
)  # fmt: skip
def test_each_point_and_each_polygon_is_a_figure(tmp_path: Path, geometry: Any, centres: Any) -> None:
    given = read(tmp_path / "a.geojson", feature(geometry))

    assert [pair == pytest.approx(centre) for pair, centre in zip(places(given), centres, strict=True)]
    features = given.collection["features"]
    assert [figure.feature for figure in given.figures] == list(range(len(features)))
    assert geojson.loads(json.dumps(given.collection)).is_valid


@pytest.mark.parametrize(
    "of_class",
    ["Mitosis", {"name": "mitotic figure", "color": [1, 2, 3]}, {"names": ["Mitosis", "x"]}, None,
     {"name": "AMF", "colorRGB": -1}, '{"name": "Mitosis"}', "Mitosis?", "Mitosis: late"],
)  # fmt: skip
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


@pytest.mark.parametrize(
    "change",
    [{"objectType": kind} for kind in ("root", "tile", "tmaCore", "tma_core", "PathTMACoreObject")]
    + [{"object_type": "PathTileObject"}, {"type": "PathRootObject"}],
)  # fmt: skip
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
    parent = feature({"type": "Polygon", "coordinates": square(300, 300, 200)}, "Tumor")
    (parent if inside == "feature" else parent["properties"])[key] = [point(1, 2, "Mitosis"), point(3, 4)]
    given = read(tmp_path / "a.geojson", [parent])

    assert places(given) == [(1, 2), (3, 4)]
    assert given.passed_over == {"Tumor": 1}
    assert key not in json.dumps(given.collection)


def test_a_region_among_points_is_refused_with_its_size(tmp_path: Path) -> None:
    region = feature({"type": "Polygon", "coordinates": [[[0, 0], [623, 0], [623, 487], [0, 487], [0, 0]]]})
    given = read(
        tmp_path / "a.geojson",
        [region, point(75, 81), feature({"type": "Polygon", "coordinates": square(9, 9, 64)})],
    )

    assert places(given) == [(75, 81), (9, 9)]
    (fault,) = [figure.fault for figure in given.figures if figure.fault]
    assert fault.startswith("is 156 x 122 µm large, expected at most the 32 µm of a patch")


# ---- databases


def annotations() -> list[tuple[str, Corners, str | None]]:
    """Spots of two classes, an outline without a class, a region, and what is of another slide."""
    found: list[tuple[str, Corners, str | None]] = [
        ("slide.tif", [centre], "Mitosis" if centre[1] < 381 else "Mitosislike") for centre in CENTRES
    ]
    x, y = CENTRES[1]
    found[1] = ("slide.tif", [(x - 9, y - 9), (x + 9, y - 9), (x + 9, y + 9), (x - 9, y + 9)], None)
    region = [(0, 0), (623, 0), (623, 487), (0, 487)]
    return [*found, ("slide.tif", region, "Tumor"), ("other.svs", [(9, 9)], "Mitosis")]


@pytest.mark.parametrize(("deleted", "agreed"), [(True, True), (False, True), (True, False)])
def test_databases_of_any_version(tmp_path: Path, deleted: bool, agreed: bool) -> None:
    entries = [*annotations(), *([("slide.tif", [(5, 5)], "Mitosis")] if deleted else [])]
    given = read(write_sliderunner(tmp_path / "a.sqlite", entries, 1 if deleted else None, agreed))

    assert places(given) == CENTRES[:8]
    assert given.taken == {"Mitosis": 7, "no class": 1}
    expected = {"Mitosislike": 4, "Tumor": 1, "other slides": 1}
    assert given.passed_over == expected | ({"deleted": 1} if deleted else {})
    assert given.on_canvas
    assert len(read(tmp_path / "a.sqlite", classes=("Mitosislike",)).figures) == 4


# ---- tables


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


# ---- names of slides


@pytest.mark.parametrize(
    ("name", "slide"),
    [
        ("slide.tif", "slide.tif"),
        ("C:\\data\\slide.svs", "slide.tif"),
        ("TCGA-A1-A0SP-01Z-00-DX1.20D6-4E1E", "TCGA-A1-A0SP-01Z-00-DX1.20D6-4E1E.svs"),
        ("Pr\u00e4parat 3.tif", "Pra\u0308parat 3.tif"),
        ("SLIDE.NDPI", "slide.ndpi"),
        ("slide.ome.tif", "slide.tif"),
        ("slide.mrxs - Series 1", "slide.mrxs"),
    ],
)
def test_names_that_mean_the_slide(name: str, slide: str) -> None:
    assert of_slide([name, "other.svs"], Path("f"), Path(slide)) == {name}


def test_the_folder_decides_between_slides_of_one_name() -> None:
    names = ["a/slide.tif", "b/slide.tif", "slides.tif"]
    assert of_slide(names, Path("f"), Path("/data/b/slide.tif")) == {"b/slide.tif"}
    with pytest.raises(DataError, match=r"holds figures of a/slide.tif and of b/slide.tif: which is"):
        of_slide(names, Path("f"), Path("/data/c/slide.tif"))
    with pytest.raises(
        DataError, match=r"holds figures of a/slide.tif, b/slide.tif, slides.tif, expected some of TCGA.1.tif"
    ):
        of_slide(names, Path("f"), Path("TCGA.1.tif"))


# ---- what holds nothing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"type": "Topology"}', "is JSON with type, expected GeoJSON features, or images and annotations"),
        ("{", "is not JSON"),
        ("a,b\n1,2\n", "has the columns a, b; expected x and y"),
        (
            '{"images": [{"id": 1, "file_name": "s1.tif"}], "annotations": [{}]}',
            "is no JSON of images, categories",
        ),
        (
            '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]',
            "holds boxes without their images",
        ),
        ("SQLite format 3\0" + 100 * "x", "is no database of SlideRunner or TIAToolbox"),
        ("PAR1", "is not a readable Parquet file"),
        ("", "is empty, expected a CSV file"),
        ({**UNIT, "features": []}, "f: 0 figures; expected some"),
        (
            [point(1, 2, "Tumor")],
            r"f: 0 figures; passed over 1 \(Tumor 1\); expected some: --class NAME takes another",
        ),
    ],
)
def test_files_that_hold_no_figures(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path / "f", content)


def test_a_zip_of_several_files_names_them(tmp_path: Path) -> None:
    (tmp_path / "f.gz").write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(DataError, match="cannot be unpacked"):
        read(tmp_path / "f.gz")
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for name in ("a.geojson", "b.geojson"):
            archive.writestr(name, "[]")
    with pytest.raises(DataError, match=r"holds a.geojson, b.geojson; expected one GeoJSON file"):
        read(tmp_path / "f.zip")
