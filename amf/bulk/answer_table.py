"""The tables that `amf predict` and `amf slide` write, and others of the same columns, read again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from amf.data.loading import numbers_in, read_frame, read_json, refuse_rows, with_names
from amf.errors import DataError

FIGURE = ["image", "page"]
TRAITS = ("domain", "slide", "species", "tumor")
NUMBERS = ("page", "confidence", "threshold", "x", "y")
OPTIONAL = ("label", "id", *TRAITS, *NUMBERS)
COLUMNS = ("image", "class", *OPTIONAL)


def read_answer_table(
    path: Path, required: Sequence[str], columns: Mapping[str, str] | None = None
) -> DataFrame:
    """Read a table of answers, or of their truth: a clean index, text where text is meant, a `page` column.

    Parameters
    ----------
    required : columns that it must have.
    columns : what it may call some of its columns: our name → its own.

    Raises
    ------
    DataError : no table, a column of `required` is missing, or an (image, page) is there twice without an
        `id` that tells the two apart.
    """
    if path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
            raise DataError(f"{path} is no table: expected a list of objects, one a figure")
        table = with_names(DataFrame(content), str(path), required, OPTIONAL, columns)
    elif path.suffix in (".csv", ".parquet"):
        table = read_frame(path, None, required, OPTIONAL, NUMBERS, columns)
        table = table.mask(table == "") if path.suffix == ".csv" else table
    else:
        raise DataError(f"{path} is neither a folder nor a .csv, .parquet or .json table")
    if "page" not in table:
        table["page"] = pd.NA
    for column in table.columns.intersection(list(NUMBERS)):
        table[column] = numbers_in(table[column], str(path), whole=column == "page")
    table["page"] = table["page"].astype("Int64")
    if "confidence" in table:
        outside = ~table["confidence"].between(0, 1)
        refuse_rows(path, table["confidence"], outside, "the confidence is {}, expected a number from 0 to 1")
    refuse_rows(path, table["image"], table["image"].isna(), "the image is empty, expected a name")
    table["image"] = table["image"].astype(str)
    twice = table.duplicated([*FIGURE, *table.columns.intersection(["id"])])
    refuse_rows(path, table["image"], twice, "{!r} is listed twice, expected one row a figure")
    return table
