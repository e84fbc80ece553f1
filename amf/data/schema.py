"""What data and training recipes share: sections that know their keys, paths below the data root, faults."""

import reprlib
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator


class Section(BaseModel):
    """A part of a recipe: its fields are the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, content: Any) -> Any:
        unknown = [key for key in content if key not in cls.model_fields] if isinstance(content, dict) else []
        if unknown:
            raise ValueError(
                f"the key {unknown[0]!r} is unknown, expected one of {', '.join(cls.model_fields)}"
            )
        return content


def _inside_root(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"the path {path!r} leaves the data root, expected one relative to it and inside")
    return path


RootPath = Annotated[str, AfterValidator(_inside_root)]


def first_fault(error: ValidationError) -> str:
    """A validation error as one sentence: the first faulty key, what was found there, how many follow."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "the content"
    more = f" (and {error.error_count() - 1} further faults)" if error.error_count() > 1 else ""
    if first["type"] == "missing":
        return f"{key}: this key is missing{more}"
    if first["type"] == "value_error":
        return f"{key}: {first['ctx']['error']}{more}"
    return f"{key}: {first['msg']}, found {reprlib.repr(first['input'])}{more}"
