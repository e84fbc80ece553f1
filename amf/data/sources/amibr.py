"""AMi-Br: 3,720 human breast cancer figures out of MIDOG21 and TUPAC16, three expert votes each."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from amf.data.loading import read_records
from amf.data.schema import RootPath
from amf.data.sources.base import Figure, Reading, Source, join_domain, reading_of, register
from amf.data.sources.generic import Columns, figure_of
from amf.data.sources.midog25 import midog_slide
from amf.errors import DataError

COLUMNS = Columns(
    image="uid",
    slide="slide",
    label="majority_atypical",
    votes=("expert1_atypical", "expert2_atypical", "expert3_atypical"),
    x="x",
    y="y",
)
SUBLABELS = ["expert1_label", "expert2_label"]

TUMOR, SPECIES = "human breast cancer", "Human"
MIDOG21_ORIGIN = "UMC Utrecht"
MIDOG21_SCANNERS = {
    "Hamamatsu XR": range(1, 51),
    "Hamamatsu S360": range(51, 101),
    "Aperio CS2": range(101, 151),
}


@register("amibr")
class AmiBr(Source):
    """The label table and the patches, named `<dataset>_<uid>.png`, in class folders or all in one folder."""

    labels: RootPath = "AMI-BR.csv"
    patches: RootPath = "AMi-Br"

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        folder = root / self.patches
        flat = folder.is_dir() and not (folder / "Normal").is_dir()
        records = read_records(root / self.labels, [*COLUMNS.names(), "dataset", *SUBLABELS])
        return reading_of(records, lambda row: self._figure(row, flat), skip_bad)

    def _figure(self, row: Mapping[str, str], flat: bool) -> Figure:
        figure = figure_of(row, "AMi-Br", self.patches, COLUMNS)
        folder = PurePosixPath(self.patches) / ("" if flat else ("Normal", "Atypical")[figure.label])
        # TUPAC16 names neither scanner nor institution by slide: it is one domain.
        scanner = None if row["dataset"] == "TUPAC16" else midog21_scanner(row["slide"])
        origin = None if scanner is None else MIDOG21_ORIGIN
        return replace(
            figure,
            image=str(folder / f"{row['dataset']}_{row['uid']}.png"),
            slide=amibr_slide(row["dataset"], row["slide"]),
            tumor=TUMOR,
            scanner=scanner,
            origin=origin,
            species=SPECIES,
            domain="TUPAC16" if scanner is None else join_domain(TUMOR, scanner, origin, SPECIES),
            sublabel="|".join(row[expert] for expert in SUBLABELS),
        )


def amibr_slide(dataset: str, slide: str) -> str:
    """The name of a slide of AMi-Br, the one MIDOG25 uses where both have it: MIDOG21/002, TUPAC16/24.

    Raises
    ------
    DataError : neither of the two data sets AMi-Br is made of.
    """
    if dataset == "MIDOG21":
        return midog_slide(slide)
    if dataset == "TUPAC16":
        return f"TUPAC16/{PurePosixPath(slide).stem}"
    raise DataError(f"unknown dataset {dataset!r}, expected MIDOG21 or TUPAC16")


def midog21_scanner(slide: str) -> str:
    """The scanner of a MIDOG21 slide, which its number tells. Raises DataError for another slide."""
    number = PurePosixPath(slide).stem
    for scanner, numbers in MIDOG21_SCANNERS.items():
        if number.isdigit() and int(number) in numbers:
            return scanner
    raise DataError(f"slide {slide!r} is not one of MIDOG21's, expected 001.tiff to 150.tiff")
