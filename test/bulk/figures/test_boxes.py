"""JSON with images, categories and boxes: corners or sizes, and which categories are figures."""

from pathlib import Path
from typing import Any

import pytest

from amf.errors import DataError
from test.support.figures import CENTRES, faults, places, read

SIZE = {"width": 623, "height": 487}
CORNERS_NOTE, SIZE_NOTE = "[left, top, right, bottom]", "[left, top, width, height]"


def boxes(
    centres: Any, form: str, side: int = 50, names: Any = None, area: int | None = None, **image: Any
) -> dict[str, Any]:
    """A JSON of boxes around centres, all of the first category."""
    names = names or {1: "mitotic figure"}
    found = []
    for number, (x, y) in enumerate(centres, start=1):
        left, top = x - side // 2, y - side // 2
        box = [left, top, left + side, top + side] if form == "corners" else [left, top, side, side]
        own = {"id": number, "image_id": 1, "category_id": next(iter(names)), "bbox": box}
        found.append(own if area is None else {**own, "area": area})
    return {
        "images": [{"id": 1, "file_name": "slide.tif", **image}],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
        "annotations": found,
    }


TWO = [(40, 40), (60, 60)]


@pytest.mark.parametrize(
    ("content", "options", "centres", "note"),
    [
        (boxes(CENTRES, "corners"), {}, CENTRES, CORNERS_NOTE),
        (boxes(CENTRES, "corners", **SIZE), {}, CENTRES, CORNERS_NOTE),
        (boxes(CENTRES, "size", **SIZE), {}, CENTRES, SIZE_NOTE),
        (boxes(CENTRES, "size"), {}, CENTRES, SIZE_NOTE),  # no box of them can be corners
        (boxes([(30, 30), (20, 40)], "size", 60, **SIZE), {}, [(30, 30), (20, 40)], SIZE_NOTE),
        (boxes([(30, 30)], "size", 60), {"boxes": "size"}, [(30, 30)], SIZE_NOTE),
        (boxes(CENTRES, "corners", 64, **SIZE), {"boxes": "corners"}, CENTRES, CORNERS_NOTE),
        (boxes(TWO, "corners", 60, area=3600), {}, TWO, CORNERS_NOTE),
        (boxes(TWO, "size", 60, area=3600), {}, TWO, SIZE_NOTE),
    ],
)
def test_boxes_are_corners_or_sizes(
    tmp_path: Path, content: Any, options: Any, centres: Any, note: str
) -> None:
    given = read(tmp_path / "a.json", content, **options)
    assert places(given) == centres
    assert given.notes == [f"{tmp_path / 'a.json'}: the boxes are read as {note}"]


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
    content = boxes(CENTRES, "corners", names=names)
    for annotation in content["annotations"][8:]:
        annotation["category_id"] = list(names)[1]
    given = read(tmp_path / "a.json", content)

    first, second = names.values()
    assert places(given) == CENTRES[:8]
    assert given.taken == {first: 8}
    assert given.passed_over == {second: 4}


def test_unknown_categories_are_listed_and_chosen_by_name(tmp_path: Path) -> None:
    content = boxes(CENTRES, "corners", names={1: "class_a", 2: "class_b"})
    listed = r"the categories class_a, class_b, none of which names .* --category NAME"
    with pytest.raises(DataError, match=listed):
        read(tmp_path / "a.json", content)
    assert places(read(tmp_path / "a.json", classes=("Class_A",))) == CENTRES
    with pytest.raises(DataError, match="has the categories 1, none"):
        read(tmp_path / "b.json", {**content, "categories": []})


def test_boxes_of_other_slides_of_no_image_and_of_regions(tmp_path: Path) -> None:
    content = boxes(CENTRES, "size", **SIZE)
    content["images"].append({"id": 2, "file_name": "other.tif", "width": 900, "height": 900})
    changes = [{"image_id": 2}, {"image_id": 9}, {"bbox": [0, 0, 400, 300]}, {"bbox": [1, 2]}]
    for annotation, change in zip(content["annotations"], changes, strict=False):
        annotation.update(change)
    given = read(tmp_path / "a.json", content)

    assert places(given) == CENTRES[4:]
    assert given.passed_over == {"other slides": 1}
    no_image, region, no_box = faults(given)
    assert no_image == "is of the image 9, which is not listed"
    assert region.startswith("is 100 x 75 µm large, expected at most the 32 µm of a patch")
    assert no_box == "has no box of four numbers"


def test_outlines_stand_in_for_a_missing_box(tmp_path: Path) -> None:
    content = boxes(CENTRES[:2], "corners")
    outlines = [[[55, 61, 95, 61, 95, 101, 55, 101]], {"counts": "aa", "size": [487, 623]}]
    for annotation, outline in zip(content["annotations"], outlines, strict=True):
        del annotation["bbox"]
        annotation["segmentation"] = outline
    given = read(tmp_path / "f.json", content)
    assert places(given) == [(75, 81)]
    assert faults(given) == ["has no box of four numbers"]
