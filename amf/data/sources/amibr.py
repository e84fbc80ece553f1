"""AMi-Br: 3,720 human breast cancer figures out of MIDOG21 and TUPAC16, three expert votes each."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from amf.data.loading import read_records
from amf.data.sources.base import (
    Figure,
    Reading,
    RootPath,
    Source,
    join_domain,
    label_in,
    reading_of,
    register,
    whole,
)
from amf.data.sources.midog25 import midog_slide
from amf.data.words import votes_of
from amf.errors import DataError

_EXPERTS = ["expert1_atypical", "expert2_atypical", "expert3_atypical"]
_SUBLABELS = ["expert1_label", "expert2_label"]
COLUMNS = ["slide", "dataset", "uid", "x", "y", *_SUBLABELS, *_EXPERTS, "majority_atypical"]

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
        return reading_of(
            read_records(root / self.labels, COLUMNS), partial(self._figure, flat=flat), skip_bad
        )

    def _figure(self, row: Mapping[str, str], flat: bool) -> Figure:
        label = label_in(row["majority_atypical"])
        folder = PurePosixPath(self.patches) / ("" if flat else ("Normal", "Atypical")[label])
        tupac = row["dataset"] == "TUPAC16"
        scanner = None if tupac else midog21_scanner(row["slide"])
        return Figure(
            image=str(folder / f"{row['dataset']}_{row['uid']}.png"),
            dataset="AMi-Br",
            slide=amibr_slide(row["dataset"], row["slide"]),
            x=whole(row["x"]),
            y=whole(row["y"]),
            label=label,
            votes=votes_of(row[expert] for expert in _EXPERTS),
            tumor=TUMOR,
            scanner=scanner,
            origin=None if scanner is None else MIDOG21_ORIGIN,
            species=SPECIES,
            # TUPAC16 names neither scanner nor institution by slide: it is one domain.
            domain="TUPAC16" if scanner is None else join_domain(TUMOR, scanner, MIDOG21_ORIGIN, SPECIES),
            sublabel="|".join(row[expert] for expert in _SUBLABELS),
        )


def amibr_slide(dataset: str, slide: str) -> str:
    """The name of a slide of AMi-Br, the one MIDOG25 uses where both have it: MIDOG21/002, TUPAC16/24.

    Raises
    ------
    DataError: neither of the two data sets AMi-Br is made of.
    """
    if dataset == "MIDOG21":
        return midog_slide(slide)
    if dataset == "TUPAC16":
        return f"TUPAC16/{PurePosixPath(slide).stem}"
    raise DataError(f"unknown dataset {dataset!r}, expected MIDOG21 or TUPAC16")


def midog21_scanner(slide: str) -> str:
    """The scanner of a MIDOG21 slide, which its number tells."""
    number = PurePosixPath(slide).stem
    for scanner, numbers in MIDOG21_SCANNERS.items():
        if number.isdigit() and int(number) in numbers:
            return scanner
    raise DataError(f"slide {slide!r} is not one of MIDOG21's, expected 001.tiff to 150.tiff")
