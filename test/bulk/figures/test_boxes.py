"""JSON with images, categories and boxes: corners or sizes, and which categories are figures."""

from pathlib import Path
from typing import Any

import pytest

from amf.errors import DataError
from test.support.figures import CENTRES, places, read


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
