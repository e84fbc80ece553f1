"""MIDOG++ itself: whole ROI images, a database of their mitotic figures, and the MIDOG25 labels of these.

The database tells mitotic figures from look-alikes, not atypical from normal ones; that is what the MIDOG25
label table adds, by slide and centre. A `MIDOG.json` of the same structure is read the same way.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from amf.data.loading import read_json, read_records
from amf.data.schema import RootPath
from amf.data.sources import midog25
from amf.data.sources.base import (
    UNLABELLED,
    Figure,
    Reading,
    Source,
    reading_of,
    register,
    removed_of,
    whole,
)
from amf.errors import DataError

MITOTIC_FIGURE = "mitotic figure"  # the database's name of the category
OTHER_SLIDE = "slide not in the database"


@register("midogpp")
class MidogPP(Source):
    """The COCO-style database, the folder of ROI images and the MIDOG25 label table."""

    database: RootPath = "MIDOG++.json"
    images: RootPath = "images"
    labels: RootPath = "MIDOG25_Atypical_Classification_Train_Set.csv"

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        from amf.data.patches import window_name
        from amf.data.table import stack

        slides, figures = read_database(root / self.database)
        records = read_records(root / self.labels, midog25.COLUMNS.names())
        here = [(place, row) for place, row in records if row["filename"] in slides]
        unlabelled = set(figures)

        def figure_of(row: Mapping[str, str]) -> Figure:
            figure = midog25.midog_figure(row, "MIDOG++", self.images)
            place = (row["filename"], *(whole(row[column]) for column in midog25.COLUMNS.coordinates()))
            if place not in figures:
                raise DataError(f"{self.database} has no mitotic figure at {place[1:]} of {place[0]}")
            unlabelled.discard(place)
            return replace(figure, image=window_name(str(PurePosixPath(self.images) / place[0]), *place[1:]))

        reading = reading_of(here, figure_of, skip_bad)
        unread = {"dataset": "MIDOG++", "reason": UNLABELLED, "detail": self.database}
        left_out = [{"slide": file, "x": x, "y": y, **unread} for file, x, y in sorted(unlabelled)]
        left_out += [
            {"slide": row["filename"], "reason": OTHER_SLIDE, "detail": place}
            for place, row in records
            if row["filename"] not in slides
        ]
        removed = stack([reading.removed, removed_of(left_out)])
        notes = midog25.repair_notes(self.labels, [row["Scanner"] for _, row in here])
        return Reading(reading.table, removed, notes)


def read_database(path: Path) -> tuple[set[str], set[tuple[str, int, int]]]:
    """The slides and the mitotic figures of a MIDOG database.

    A box is [left, top, right, bottom] (not COCO's [left, top, width, height]) and half px occur; the
    published coordinates are the centre with its fraction cut off.

    Returns
    -------
    (file names of the images, (file name, x, y) of every mitotic figure, px)

    Raises
    ------
    DataError : not such a database.
    """
    try:
        database: dict[str, Any] = read_json(path)
        files = {image["id"]: str(image["file_name"]) for image in database["images"]}
        mitotic = {entry["id"] for entry in database["categories"] if entry["name"] == MITOTIC_FIGURE}
        figures = set()
        for annotation in database["annotations"]:
            if annotation["category_id"] in mitotic:
                left, top, right, bottom = annotation["bbox"]
                figures.add((files[annotation["image_id"]], int((left + right) / 2), int((top + bottom) / 2)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: not a MIDOG database (images, categories, annotations): {error!r}"
        ) from None
    if not mitotic:
        raise DataError(f"{path}: no category {MITOTIC_FIGURE!r} among its categories")
    return set(files.values()), figures
