"""The patch table: one row per mitotic figure, validated, hashed and merged without a row lost unseen.

The columns are the contract of every later step (splits, sampling, fitting); `SCHEMA` says what they mean.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandas import DataFrame, Series

from amf.data.loading import numbers_in, read_frame
from amf.errors import DataError
from amf.files import written_whole

SAME_FIGURE = "same figure (slide, x, y) in an earlier source"
SAME_PIXELS = "pixel-identical to an earlier patch"

_TEXT = pa.Check.str_length(min_value=1)

SCHEMA = pa.DataFrameSchema(
    {
        # Unique id: path of the patch relative to the data root, or of an ROI with the window to cut.
        "image": pa.Column("str", _TEXT, unique=True, report_duplicates="exclude_first"),
        "dataset": pa.Column("str", _TEXT),
        # Group that never straddles a split; the same physical slide has the same name in every data set.
        "slide": pa.Column("str", _TEXT),
        "x": pa.Column("Int64", nullable=True),  # centre of the figure in its ROI, px
        "y": pa.Column("Int64", nullable=True),
        "label": pa.Column("int64", pa.Check.isin([0, 1])),  # 1 = AMF, as published
        # Mean of the votes present (paper, section Model Architecture and Training); the label where none is.
        "soft_label": pa.Column("float64", pa.Check.in_range(0.0, 1.0)),
        # "110" = AMF, AMF, NMF; "" = unpublished
        "votes": pa.Column("str", pa.Check.str_matches(r"^[01]*$")),
        "tumor": pa.Column("str", _TEXT, nullable=True),
        "scanner": pa.Column("str", _TEXT, nullable=True),
        "origin": pa.Column("str", _TEXT, nullable=True),
        "species": pa.Column("str", _TEXT, nullable=True),
        "domain": pa.Column("str", _TEXT),
        # Finer classes by expert, "AMF other|NMF metaphase".
        "sublabel": pa.Column("str", _TEXT, nullable=True),
    },
    strict=True,
    ordered=True,
)
COLUMNS = list(SCHEMA.columns)
REMOVED_COLUMNS = [*COLUMNS, "reason", "detail"]
_NULLABLE_TEXT = ["tumor", "scanner", "origin", "species", "sublabel"]


def validate(table: DataFrame, source: str) -> DataFrame:
    """Check a patch table, which an error calls `source`, against `SCHEMA`; gives it back.

    Raises
    ------
    DataError : one sentence with the first fault (row 1 is the first below the header) and how many follow.
    """
    try:
        table = SCHEMA.validate(table, lazy=True)
    except pa.errors.SchemaErrors as errors:
        faults = errors.failure_cases.sort_values("index", kind="stable", na_position="first")
        more = f" (and {len(faults) - 1} further faults)" if len(faults) > 1 else ""
        raise DataError(f"{source}: {_describe(faults.iloc[0])}{more}") from None
    mean = table["votes"].str.count("1") / table["votes"].str.len()  # 0 / 0 = NaN where no vote is published
    wrong = (table["soft_label"] - mean).abs() >= 1e-9
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        found = f"soft_label is {table['soft_label'].iloc[row]}, expected the mean of the votes"
        raise DataError(f"{source}: row {row + 1}: {found} {table['votes'].iloc[row]!r}")
    return table


def _describe(fault: "Series") -> str:
    """One of pandera's failure cases as the end of a sentence; those of columns have no row."""
    check, column, value = str(fault["check"]), fault["column"], fault["failure_case"]
    if check == "column_in_schema":
        return f"unknown column {str(value)!r}, expected {', '.join(COLUMNS)}"
    if check == "column_in_dataframe":
        return f"column {str(value)!r} is missing, expected {', '.join(COLUMNS)}"
    if pd.isna(fault["index"]):
        return f"column {column!r} is {value}, expected {check}"
    row = f"row {int(fault['index']) + 1}"
    if check == "field_uniqueness":
        return f"{row}: {column} {str(value)!r} appears a second time, expected unique ids"
    if check == "not_nullable":
        return f"{row}: {column} is empty, expected a value"
    return f"{row}: {column} is {str(value)!r}, expected {check}"


def read_table(path: Path) -> DataFrame:
    """Read a patch table written by `write_table` (or by hand) as CSV or Parquet, whichever the suffix says.

    Raises
    ------
    DataError : no such file, another suffix, an unreadable file, or a row that `SCHEMA` refuses.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such patch table; `amf data` writes one")
    table = read_frame(path)
    return validate(table if _suffix(path) == ".parquet" else _from_text(table, str(path)), str(path))


def _from_text(text: DataFrame, source: str) -> DataFrame:
    table = text.copy()
    for column in table.columns.intersection(["x", "y", "label"]):
        table[column] = numbers_in(text[column], source, whole=True).astype("Int64")
    if "label" in table and table["label"].notna().all():
        table["label"] = table["label"].astype("int64")
    if "soft_label" in table:
        table["soft_label"] = numbers_in(text["soft_label"], source).astype("float64")
    for column in table.columns.intersection(_NULLABLE_TEXT):
        table[column] = text[column].where(text[column] != "")
    return table


def write_table(table: DataFrame, path: Path) -> None:
    """Validate a patch table and write it as CSV or Parquet, by suffix; it appears whole or not at all."""
    path = Path(path)
    suffix = _suffix(path)
    table = validate(table, str(path))
    with written_whole(path) as partial:
        if suffix == ".parquet":
            table.to_parquet(partial, index=False)
        else:
            table.to_csv(partial, index=False, lineterminator="\n")


def write_removed(removed: DataFrame, table_path: Path) -> Path:
    """Write the rows that a table no longer holds, with their reasons, beside it as `<table>.removed.csv`."""
    path = Path(table_path).with_suffix(".removed.csv")
    with written_whole(path) as partial:
        removed.reindex(columns=REMOVED_COLUMNS).to_csv(partial, index=False, lineterminator="\n")
    return path


def _suffix(path: Path) -> str:
    if path.suffix not in (".csv", ".parquet"):
        raise DataError(f"{path}: a patch table ends in .csv or .parquet, not in {path.suffix!r}")
    return path.suffix


def table_hash(table: DataFrame) -> str:
    """SHA-256 over the rows in their order, the same whether read from CSV, from Parquet or from memory."""
    digest = hashlib.sha256(json.dumps(COLUMNS).encode())
    for row in table[COLUMNS].astype(object).itertuples(index=False):
        values = [None if pd.isna(value) else value for value in row]
        digest.update(b"\n" + json.dumps(values, ensure_ascii=False).encode())
    return digest.hexdigest()


def stack(removed: Sequence[DataFrame]) -> DataFrame:
    """One table of all rows left out; pandas would lose the types of an empty one."""
    return pd.concat([rows for rows in removed if len(rows)] or list(removed), ignore_index=True)


def combine(tables: Sequence[DataFrame]) -> tuple[DataFrame, DataFrame]:
    """Stack patch tables and drop each figure that an earlier one holds (paper, section Dataset).

    Two rows are the same figure when slide, x and y agree; rows without x and y are never matched here (see
    `remove_identical`). A kept row without sublabel inherits that of the row it replaces.

    Returns
    -------
    (table, removed): the merged rows in the order given; the dropped ones with `reason` and `detail`.

    Raises
    ------
    DataError : two tables name the same image.
    """
    rows = validate(pd.concat([table[COLUMNS] for table in tables], ignore_index=True), "the combined table")
    place = [rows[column] for column in ("slide", "x", "y")]
    table, removed = _without_repeats(rows, place, SAME_FIGURE)
    inherited = rows["sublabel"].groupby(place).transform("first")
    table = table.assign(sublabel=table["sublabel"].fillna(inherited))
    return table.reset_index(drop=True), removed.reset_index(drop=True)


def remove_identical(table: DataFrame, content_hashes: Sequence[str]) -> tuple[DataFrame, DataFrame]:
    """Drop each patch whose pixels, by their hash (N, in table order), are those of an earlier row.

    Returns
    -------
    (table, removed) as `combine` does.
    """
    hashes = Series(list(content_hashes), index=table.index, dtype="str")
    kept, removed = _without_repeats(table, [hashes], SAME_PIXELS)
    return kept.reset_index(drop=True), removed.reset_index(drop=True)


def _without_repeats(rows: DataFrame, keys: "list[Series[Any]]", reason: str) -> tuple[DataFrame, DataFrame]:
    """The first row of each key, and the others with their reason; a row whose key is missing stays."""
    first = rows.index.to_series().groupby(keys).transform("first")  # the row that stays
    repeated = first.notna() & (first != rows.index)
    kept, removed = rows.loc[first[repeated].astype(int)], rows[repeated]
    details = [
        f"kept {image}" + ("" if label == kept_label else f", whose label is {kept_label}, not {label}")
        for image, kept_label, label in zip(kept["image"], kept["label"], removed["label"], strict=True)
    ]
    return rows[~repeated], removed.assign(reason=reason, detail=details)


def vote_conflicts(table: DataFrame) -> DataFrame:
    """The figures whose published label is not what the majority of their published votes says."""
    voted = table["votes"] != ""
    return table[
        voted & (table["soft_label"] != 0.5) & ((table["soft_label"] > 0.5) != (table["label"] == 1))
    ]
