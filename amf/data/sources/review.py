"""The votes of experts on the page of `amf review`, as a data set.

    - source: review
      dataset: my laboratory
      votes: [review-A.csv, review-B.csv]   # what the page downloaded, one file or more an expert
      images: slides                        # what the page's images are relative to; default: the data root
      constants: {tumor: human breast cancer, scanner: X, origin: Y, species: Human}

A figure's label is the majority of its votes, its soft label their mean. A tie is left out, and listed.
"""

from pathlib import Path, PurePosixPath

from pydantic import Field

from amf.data.schema import RootPath
from amf.data.sources.base import (
    NO_VOTE,
    TIE,
    Figure,
    Reading,
    Source,
    join_domain,
    register,
    removed_of,
    table_of,
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
        import pandas as pd

        from amf.data.patches import file_of, page_name
        from amf.data.reviews import read_reviews

        reviews = read_reviews([root / path for path in self.votes])
        traits = self.constants.model_dump()
        domain = traits.pop("domain") or join_domain(*traits.values()) or self.dataset
        figures: list[Figure] = []
        removed: list[dict[str, object]] = []
        nameless = 0
        for row in reviews.figures.to_dict("records"):
            name = str(PurePosixPath(self.images) / row["image"])
            image = name if pd.isna(row["page"]) else page_name(name, int(row["page"]))
            nameless += not row["slide"]
            # Figures whose slide is unknown share one with those of the same file alone.
            slide = f"{self.dataset}/{row['slide'] or file_of(row['image'])}"
            if pd.isna(row["label"]):
                reason = TIE if row["votes"] else NO_VOTE
                named = {"image": image, "dataset": self.dataset, "slide": slide, "votes": row["votes"]}
                removed.append({**named, "reason": reason, "detail": row["detail"]})
                continue
            figures.append(
                Figure(
                    image=image,
                    dataset=self.dataset,
                    slide=slide,
                    label=int(row["label"]),
                    domain=domain,
                    x=None if pd.isna(row["x"]) else round(row["x"]),
                    y=None if pd.isna(row["y"]) else round(row["y"]),
                    votes=row["votes"],
                    **traits,
                )
            )
        notes = [f"{self.dataset}: {note}" for note in reviews.notes]
        if nameless:
            notes.append(f"{self.dataset}: {nameless} figures name no slide; each file counts as one.")
        return Reading(table_of(figures), removed_of(removed), notes)
