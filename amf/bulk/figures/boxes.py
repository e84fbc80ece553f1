"""JSON with images, categories and boxes: MIDOG's boxes are corners, COCO's have a width and a height."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from amf.bulk.figures.given import GivenFigure, GivenFigures, Wanted, is_figure, of_slide
from amf.errors import DataError

MIDOG_BOX_PX = 50
"""The side of every box of MIDOG and MIDOG++."""

ROUNDING_PX = 1.0
WORDS = {"corners": "[left, top, right, bottom]", "size": "[left, top, width, height]"}

Box = tuple[float, float, float, float]


def read_boxes(path: Path, content: Mapping[str, Any], wanted: Wanted) -> GivenFigures:
    """The annotations of the slide's image whose category names a mitotic figure.

    Raises
    ------
    DataError : not such a file; no category's name is known, or none is given; or the boxes do not tell
        whether they are corners or sizes.
    """
    try:
        names = {str(image["id"]): str(image["file_name"]) for image in content["images"]}
        categories = {
            str(category["id"]): str(category.get("name", category["id"]))
            for category in content.get("categories") or []
        }
        annotations = [dict(annotation) for annotation in content["annotations"]]
        for annotation in annotations:
            annotation |= {key: str(annotation[key]) for key in ("image_id", "category_id")}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no JSON of images, categories and annotations: {error!r}") from None
    own = of_slide(names.values(), path, wanted.slide)
    _check_categories(path, categories, annotations, wanted)
    boxes = [_box(annotation) for annotation in annotations]
    form = wanted.boxes or _form(path, annotations, boxes, content["images"])
    given = GivenFigures(notes=[f"{path}: the boxes are read as {WORDS[form]}"] if annotations else [])
    for annotation, box in zip(annotations, boxes, strict=True):
        category = categories.get(annotation["category_id"], annotation["category_id"])
        name, known = f"{path} annotation {annotation.get('id')}", {"id": str(annotation.get("id"))}
        if annotation["image_id"] not in names:
            fault = f"is of the image {annotation['image_id']}, which is not listed"
            given.add(GivenFigure(name, known=known, fault=fault))
        elif names[annotation["image_id"]] not in own:
            given.passed_over["other slides"] += 1
        elif not (wanted.takes(category) or annotation["category_id"] in wanted.classes):
            given.passed_over[str(category)] += 1
        elif box is None:
            given.add(GivenFigure(name, known=known, fault="has no box of four numbers"))
        else:
            is_size = form == "size" or annotation.get("bbox") is None
            left, top, width, height = box if is_size else (*box[:2], box[2] - box[0], box[3] - box[1])
            fault = wanted.too_wide(width, height)
            if min(width, height) < 0:
                fault = f"has the box {list(box)}, expected {WORDS[form]}"
            given.add(GivenFigure(name, left + width / 2, top + height / 2, known, fault=fault), category)
    return given


def _check_categories(
    path: Path, categories: Mapping[str, str], annotations: Sequence[Mapping[str, Any]], wanted: Wanted
) -> None:
    """Refuse a file none of whose categories is known to name a mitotic figure."""
    if wanted.classes or not annotations or any(is_figure(name) for name in categories.values()):
        return
    found = ", ".join(categories.values()) or ", ".join(sorted({a["category_id"] for a in annotations}))
    raise DataError(
        f"{path} has the categories {found}, none of which names mitotic figures: choose with --category NAME"
    )


def _box(annotation: Mapping[str, Any]) -> Box | None:
    """The annotation's box, else the one around its outlines, as COCO has them: left, top, width, height."""
    try:
        if annotation.get("bbox") is not None:
            a, b, c, d = map(float, annotation["bbox"])
            return a, b, c, d
        numbers = [float(number) for outline in annotation["segmentation"] for number in outline]
        xs, ys = numbers[::2], numbers[1::2]
        return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
    except (KeyError, TypeError, ValueError):
        return None


def _form(
    path: Path,
    annotations: Sequence[Mapping[str, Any]],
    boxes: Sequence[Box | None],
    images: Sequence[Mapping[str, Any]],
) -> str:
    """Whether boxes are corners or sizes, by what only one of the two can be.

    Corners are sure where every box is MIDOG's 50 px; sizes where a box cannot be corners, where `area` says
    so, or where all boxes lie inside their images as sizes.
    """
    pairs = zip(annotations, boxes, strict=True)
    found = [(one, box) for one, box in pairs if box is not None and one.get("bbox") is not None]
    if not found:
        return "size"
    corners = all(c > a and d > b for _, (a, b, c, d) in found)
    midog = all(
        abs(side - MIDOG_BOX_PX) <= ROUNDING_PX for _, (a, b, c, d) in found for side in (c - a, d - b)
    )
    sizes = {str(image.get("id")): (image.get("width"), image.get("height")) for image in images}
    inside = [_lies_inside(box, sizes.get(annotation["image_id"], (None, None))) for annotation, box in found]
    if all(_area_is(annotation, box[2] * box[3]) for annotation, box in found):
        return "size"
    if corners and (
        midog or all(_area_is(annotation, (c - a) * (d - b)) for annotation, (a, b, c, d) in found)
    ):
        return "corners"
    could_be_sizes = all(c > 0 and d > 0 for _, (a, b, c, d) in found) and False not in inside
    if could_be_sizes and (not corners or None not in inside):
        return "size"
    raise DataError(
        f"{path} does not tell whether its boxes are {WORDS['corners']} or {WORDS['size']}, as the first, "
        f"{list(found[0][1])}: say so with --boxes corners or --boxes size"
    )


def _lies_inside(box: Box, size: tuple[Any, Any]) -> bool | None:
    """Whether a box of a width and a height lies in its image; None where the image's size is not known."""
    if not all(isinstance(side, int | float) and side > 0 for side in size):
        return None
    left, top, width, height = box
    return left + width <= size[0] + ROUNDING_PX and top + height <= size[1] + ROUNDING_PX


def _area_is(annotation: Mapping[str, Any], area: float) -> bool:
    """Whether the annotation says that its box has that area; a mask's area is smaller and says nothing."""
    said = annotation.get("area")
    return isinstance(said, int | float) and said > 0 and abs(said - area) <= 0.01 * said
