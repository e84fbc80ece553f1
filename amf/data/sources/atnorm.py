"""AtNorM-MD (2,107 figures out of MIDOG++) and AtNorM-Br (746 out of TCGA): class folders, expert votes."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from amf.data.loading import read_records
from amf.data.schema import RootPath
from amf.data.sources.base import Figure, Reading, Source, label_in, reading_of, register
from amf.data.words import votes_of
from amf.errors import DataError

# Neither set publishes the slide of a patch, but AtNorM-MD appears numbered in slide order: neighbouring
# files differ in colour (median and spread per channel, in standard deviations) by 0.9, files 50 apart by
# 1.8, random pairs by 2.8. So a run of numbers shares its slides, and keeping it on one side of a split leaks
# less than splitting patch by patch. A slide cut at the end of a run can still be on both sides: splits of
# these two sets are grouped by run, not strictly by slide.
BLOCK = 50


class _ClassFolders(Source):
    """Patches in `Atypical/` and `Normal/`; the folder is the label. The whole set is one domain."""

    dataset: ClassVar[str]
    traits: ClassVar[Mapping[str, Any]] = {}

    patches: RootPath
    votes: RootPath | None = None

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        records = self._records(root)
        if self.votes is not None:
            # Votes without a patch go the same way as every other row that is no figure.
            unvoted = {record["name"]: record for _, record in records}
            for place, row in read_records(root / self.votes, ["Filename"]):
                record = unvoted.pop(row["Filename"], None)
                if record is None:
                    records.append((place, row))
                else:
                    record |= row
        reading = reading_of(records, self._figure, skip_bad)
        blocks = reading.table["slide"].nunique()
        note = (
            f"{self.dataset}: slides are unpublished; {blocks} runs of {BLOCK} file numbers stand in for them"
        )
        return replace(reading, notes=[note])

    def _records(self, root: Path) -> list[tuple[str, dict[str, str]]]:
        folder = root / self.patches
        paths = [path for part in ("Atypical", "Normal") for path in (folder / part).glob("*.png")]
        if not paths:
            raise DataError(
                f"{folder}: no PNG files in Atypical/ and Normal/, expected the published patches"
            )
        # By number, so that the order of the table is the publisher's and not the file system's.
        paths.sort(key=lambda path: (len(path.name), path.name, path.parent.name))
        return [(str(path), {"name": path.name, "class": path.parent.name}) for path in paths]

    def _figure(self, row: Mapping[str, str]) -> Figure:
        if "name" not in row:
            raise DataError(f"{row['Filename']!r} is not in {self.patches}, or has votes for the second time")
        name, label = row["name"], label_in(row["class"])
        if self.votes is not None and "Filename" not in row:
            raise DataError(f"there are no votes on {name!r} in {self.votes}")
        if label_in(row.get("Majority", row["class"])) != label:
            raise DataError(
                f"{name!r} lies in {row['class']}/ but its majority in {self.votes} is {row['Majority']!r}"
            )
        stem = PurePosixPath(name).stem
        group = f"block {int(stem) // BLOCK:03}" if stem.isdigit() else stem
        return Figure(
            image=str(PurePosixPath(self.patches) / row["class"] / name),
            dataset=self.dataset,
            slide=f"{self.dataset}/{group}",
            label=label,
            votes=votes_of(row[expert] for expert in row if expert.startswith("Expert_")),
            domain=self.dataset,
            **self.traits,
        )


@register("atnorm_md")
class AtNormMD(_ClassFolders):
    """Several tumors of MIDOG++; which one a patch shows is not published."""

    dataset: ClassVar[str] = "AtNorM-MD"

    patches: RootPath = "AtNorM-MD"


@register("atnorm_br")
class AtNormBr(_ClassFolders):
    """Human breast cancer out of The Cancer Genome Atlas."""

    dataset: ClassVar[str] = "AtNorM-Br"
    traits: ClassVar[Mapping[str, str]] = {
        "tumor": "human breast cancer",
        "origin": "TCGA",
        "species": "Human",
    }

    patches: RootPath = "AtNorM-Br"
