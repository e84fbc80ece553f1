"""A data recipe: which published data sets make up a patch table, and where they lie below the data root."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import Discriminator, Field, Tag, ValidationError, create_model

from amf.data.loading import read_yaml
from amf.data.schema import RootPath, Section, first_fault
from amf.data.sources import SOURCES, Reading, Source
from amf.errors import DataError, RecipeError

OTHER_SIDE = "not on this side of AMi-Br's published split"


class AmibrSide(Section):
    """One side of AMi-Br's published split: the figures that `file` lists, or AMi-Br's others."""

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
        DataError : a file is missing or, unless `skip_bad`, a row is not usable; no figure is left.
        """
        from amf.data.table import combine, stack

        readings = [source.read(root, skip_bad) for source in self.sources]
        table, overlap = combine([reading.table for reading in readings])
        left_out = [*(reading.removed for reading in readings), overlap]
        if self.amibr_split is not None:
            from amf.data.splits import published_amibr_split

            split = published_amibr_split(table, root / self.amibr_split.file)
            rows = split.train if self.amibr_split.side == "train" else split.held_out
            other = table.drop(index=list(rows)).assign(reason=OTHER_SIDE, detail=self.amibr_split.file)
            left_out.append(other)
            table = table.iloc[rows].reset_index(drop=True)
        if table.empty:
            reasons = stack(left_out)["reason"].value_counts()
            why = ", ".join(f"{count} rows: {reason}" for reason, count in reasons.items())
            raise DataError(f"no figure is left to be used; {why or 'there are no rows'}")
        return Reading(table, stack(left_out), [note for reading in readings for note in reading.notes])


def load_data_recipe(path: Path) -> DataRecipe:
    """Read a data recipe: YAML with `sources` and perhaps `amibr_split`; RecipeError names the fault."""
    content = read_yaml(Path(path))
    try:
        checked: Any = _schema().model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{path}: {first_fault(error)}") from None
    return DataRecipe(tuple(checked.sources), checked.amibr_split)


def _schema() -> type[Section]:
    """What a data recipe may hold: an entry's key `source` tells which of SOURCES the others belong to."""
    wrong = f"expected the key 'source' with one of {', '.join(sorted(SOURCES))}"
    entry: Any = Annotated[
        Union[tuple(Annotated[source, Tag(name)] for name, source in SOURCES.items())],  # noqa: UP007
        Discriminator(
            _source_of,
            custom_error_type="source",
            custom_error_message=wrong,
        ),
    ]
    return create_model(
        "DataRecipeFile",
        __base__=Section,
        sources=(Annotated[list[entry], Field(min_length=1)], ...),
        amibr_split=(AmibrSide | None, None),
    )


def _source_of(entry: Any) -> str | None:
    name = entry.get("source") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else None
