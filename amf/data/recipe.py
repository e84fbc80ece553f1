"""A data recipe: which published data sets make up a patch table, and where they lie below the data root."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from amf.data.loading import read_yaml
from amf.data.sources import SOURCES, Reading, Source
from amf.data.sources.base import RootPath
from amf.data.splits import published_amibr_split
from amf.data.table import combine
from amf.errors import RecipeError

OTHER_SIDE = "not on this side of AMi-Br's published split"


class AmibrSide(BaseModel):
    """One side of AMi-Br's published split: the figures that `file` lists, or AMi-Br's others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: RootPath = "amibr_train_split.csv"
    side: Literal["train", "test"]


@dataclass(frozen=True)
class DataRecipe:
    """The sources in order of precedence: where two hold the same figure, the first one's row stays.

    With `amibr_split`, only the figures on that side of the split stay.
    """

    sources: tuple[Source, ...]
    amibr_split: AmibrSide | None = None

    def read(self, root: Path, skip_bad: bool = False) -> Reading:
        """Read all sources below `root` and merge them into one table.

        Raises
        ------
        DataError: a file is missing or, unless `skip_bad`, a row is not usable.
        """
        readings = [source.read(root, skip_bad) for source in self.sources]
        table, overlap = combine([reading.table for reading in readings])
        left_out = [*(reading.removed for reading in readings), overlap]
        if self.amibr_split is not None:
            split = published_amibr_split(table, root / self.amibr_split.file)
            rows = split.train if self.amibr_split.side == "train" else split.held_out
            other = table.drop(index=list(rows)).assign(reason=OTHER_SIDE, detail=self.amibr_split.file)
            left_out.append(other)
            table = table.iloc[rows].reset_index(drop=True)
        removed = [frame for frame in left_out if len(frame)]
        return Reading(
            table,
            pd.concat(removed, ignore_index=True) if removed else overlap,
            [note for reading in readings for note in reading.notes],
        )


def load_data_recipe(path: Path) -> DataRecipe:
    """Read and validate a data recipe, a YAML file with a list, `sources`, and perhaps `amibr_split`.

    Raises
    ------
    RecipeError: names the fault: no such file, no YAML, an unknown source or key, a value out of range.
    """
    content = read_yaml(Path(path))
    if (
        not isinstance(content, dict)
        or not {"sources"} <= set(content) <= {"sources", "amibr_split"}
        or not isinstance(content["sources"], list)
    ):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise RecipeError(
            f"{path}: found {keys}, expected the key 'sources' with a list of data sets, and no "
            "other but 'amibr_split'."
        )
    if not content["sources"]:
        raise RecipeError(f"{path}: sources is empty, expected at least one data set.")
    entries = enumerate(content["sources"], start=1)
    return DataRecipe(
        tuple(_source(entry, f"{path}: entry {number} of sources") for number, entry in entries),
        _amibr_side(content["amibr_split"], str(path)) if "amibr_split" in content else None,
    )


def _amibr_side(entry: Any, place: str) -> AmibrSide:
    try:
        return AmibrSide.model_validate(entry)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(["amibr_split", *map(str, fault["loc"])])
        raise RecipeError(f"{place}: {key}: {fault['msg']}, found {fault['input']!r}.") from None


def _source(entry: Any, place: str) -> Source:
    if not isinstance(entry, dict) or "source" not in entry:
        raise RecipeError(f"{place}: no key 'source', expected one of {', '.join(sorted(SOURCES))}.")
    settings = dict(entry)
    name = settings.pop("source")
    if not isinstance(name, str) or name not in SOURCES:
        raise RecipeError(f"{place}: unknown source {name!r}, expected one of {', '.join(sorted(SOURCES))}.")
    try:
        return SOURCES[name].model_validate(settings)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            known = ", ".join(SOURCES[name].model_fields)
            raise RecipeError(f"{place}: unknown key {key!r}, source {name!r} has {known}.") from None
        raise RecipeError(f"{place}: {key or name}: {fault['msg']}, found {fault['input']!r}.") from None
