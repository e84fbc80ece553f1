"""OMG-Octo Atypical: 1,757 rows, four of them repeats; the majority label only, no votes."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from amf.data.loading import read_records
from amf.data.sources.base import (
    Figure,
    Reading,
    RootPath,
    Source,
    label_in,
    reading_of,
    register,
)


@register("omg_octo")
class OmgOcto(Source):
    """The label table and the folder of patches. Tumor and scanner are not published: it is one domain."""

    labels: RootPath = "OMG-Octo.csv"
    patches: RootPath = "OMG-Octo"

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        records = read_records(root / self.labels, ["image_id", "filename", "majority"])
        return reading_of(records, self._figure, skip_bad, repeats=True)

    def _figure(self, row: Mapping[str, str]) -> Figure:
        return Figure(
            image=str(PurePosixPath(self.patches) / row["image_id"]),
            dataset="OMG-Octo",
            slide=f"OMG-Octo/{row['filename']}",
            label=label_in(row["majority"]),
            domain="OMG-Octo",
        )
