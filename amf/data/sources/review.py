"""The votes of experts on the page of `amf review`, as a data set.

    - source: review
      dataset: my laboratory
      votes: [review-A.csv, review-B.csv]   # what the page downloaded, one file or more an expert
      images: slides                        # what the page's images are relative to; default: the data root
      constants: {tumor: human breast cancer, scanner: X, origin: Y, species: Human}

A figure's label is the majority of its votes, its soft label their mean. A tie is left out, and listed.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import Field

from amf.data.schema import RootPath
from amf.data.sources.base import (
    NO_VOTE,
    TIE,
    Figure,
    Reading,
    Source,
    Undecided,
    join_domain,
    reading_of,
    register,
)
from amf.data.sources.generic import Traits


@register("review")
class Review(Source):
    """The CSV files that experts downloaded, and what their images are relative to."""

    dataset: str = Field(min_length=1)
    votes: list[RootPath] = Field(min_length=1)
    images: RootPath = "."
    constants: Traits = Traits()

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """See Source.read."""
        from amf.data.reviews import read_reviews

        reviews = read_reviews([root / path for path in self.votes])
        rows = reviews.figures.astype(object).where(reviews.figures.notna(), None).to_dict("records")
        reading = reading_of([(row["detail"], row) for row in rows], self._figure, skip_bad)
        notes = [f"{self.dataset}: {note}" for note in reviews.notes]
        if nameless := sum(not row["slide"] for row in rows):
            notes.append(f"{self.dataset}: {nameless} figures name no slide; each file counts as one.")
        return replace(reading, notes=notes)

    def _figure(self, row: Mapping[str, Any]) -> Figure:
        from amf.data.patches import file_of, page_name

        traits = self.constants.model_dump()
        name = str(PurePosixPath(self.images) / row["image"])
        known = {
            "image": name if row["page"] is None else page_name(name, int(row["page"])),
            "dataset": self.dataset,
            # Figures whose slide is unknown share one with those of the same file alone.
            "slide": f"{self.dataset}/{row['slide'] or file_of(row['image'])}",
            "x": None if row["x"] is None else round(row["x"]),
            "y": None if row["y"] is None else round(row["y"]),
            "votes": row["votes"],
            "domain": traits.pop("domain") or join_domain(*traits.values()) or self.dataset,
            **traits,
        }
        if row["label"] is None:
            raise Undecided(TIE if row["votes"] else NO_VOTE, known)
        return Figure(label=int(row["label"]), **known)
