"""OMG-Octo Atypical: 1,757 rows, four of them repeats; the majority label only, no votes."""

from pathlib import Path

from amf.data.loading import read_records
from amf.data.schema import RootPath
from amf.data.sources.base import Reading, Source, reading_of, register
from amf.data.sources.generic import Columns, figure_of

COLUMNS = Columns(image="image_id", slide="filename", label="majority")


@register("omg_octo")
class OmgOcto(Source):
    """The label table and the folder of patches. Tumor and scanner are not published: it is one domain."""

    labels: RootPath = "OMG-Octo.csv"
    patches: RootPath = "OMG-Octo"

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        records = read_records(root / self.labels, COLUMNS.names())
        return reading_of(records, lambda row: figure_of(row, "OMG-Octo", self.patches, COLUMNS), skip_bad)
