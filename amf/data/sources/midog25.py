"""The official MIDOG 2025 Track 2 training set: 11,937 figures of MIDOG++ with two or three expert votes."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from amf.data.loading import read_records
from amf.data.schema import RootPath
from amf.data.sources.base import Figure, Reading, Source, reading_of, register
from amf.data.sources.generic import Columns, figure_of
from amf.errors import DataError

COLUMNS = Columns(
    image="image_id",
    slide="filename",
    label="majority",
    votes=("expert1", "expert2", "expert3"),
    x="coordinateX",
    y="coordinateY",
    tumor="Tumor",
    scanner="Scanner",
    origin="Origin",
    species="Species",
)
SCANNER_SPELLINGS = {"Hamammatsu XR": "Hamamatsu XR"}  # misspelt in the published table
MIDOG21_SLIDES = range(1, 151)


@register("midog25")
class Midog25(Source):
    """The label table and the folder of patches as Zenodo ships them."""

    labels: RootPath = "MIDOG25_Atypical_Classification_Train_Set.csv"
    patches: RootPath = "MIDOG25_Binary_Classification_Train_Set"

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        records = read_records(root / self.labels, COLUMNS.names())
        reading = reading_of(records, lambda row: midog_figure(row, "MIDOG25", self.patches), skip_bad)
        return replace(reading, notes=repair_notes(self.labels, [row["Scanner"] for _, row in records]))


def midog_figure(row: Mapping[str, str], dataset: str, patches: str) -> Figure:
    """The figure of one row of the MIDOG25 label table.

    Where the first two experts agree the third vote is mostly empty, so a figure has two votes or three.
    The label is the published majority even in 49 rows whose votes say otherwise (`table.vote_conflicts`).
    """
    scanner = SCANNER_SPELLINGS.get(row["Scanner"], row["Scanner"])
    figure = figure_of({**row, "Scanner": scanner}, dataset, patches, COLUMNS)
    return replace(figure, slide=midog_slide(row["filename"]))


def midog_slide(filename: str) -> str:
    """The name of a MIDOG slide in every data set that uses it: MIDOG21/002, MIDOG++/245.

    Slides 001 to 150 were published first in MIDOG 2021 and are the ones AMi-Br shares.
    Raises DataError where the name has no number.
    """
    number = PurePosixPath(filename).stem
    if not number.isdigit():
        raise DataError(f"slide {filename!r} is not a MIDOG slide, expected a number such as 002.tiff")
    return f"{'MIDOG21' if int(number) in MIDOG21_SLIDES else 'MIDOG++'}/{number}"


def repair_notes(file: str, scanners: list[str]) -> list[str]:
    """One remark for each misspelt scanner name repaired, with its number of rows."""
    return [
        f"{file}: scanner {name!r} read as {SCANNER_SPELLINGS[name]!r} in {count} rows"
        for name, count in Counter(scanners).items()
        if name in SCANNER_SPELLINGS
    ]
