"""What experts voted on a review page: the CSV files they downloaded, joined figure by figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pandas as pd
from pandas import DataFrame

from amf.data.loading import read_records
from amf.errors import DataError

COLUMNS = ["image", "page", "slide", "x", "y", "vote", "expert", "time"]
VOTES = {"atypical": "1", "normal": "0", "unsure": ""}
"""A vote as a patch table spells it; unsure is a vote not given."""


@dataclass(frozen=True)
class Reviews:
    """The votes of all experts.

    Attributes
    ----------
    figures : one row a figure: image, slide (str, "" where unknown), page (Int64), x and y (float64, NaN
        where unknown), votes (as "110", experts in the order of the files), label (Int64: the majority, <NA>
        for a tie or no vote), detail (who voted what).
    notes : kappa between experts, ties and votes that were replaced, a sentence each.
    """

    figures: DataFrame
    notes: list[str]


def is_review(path: Path) -> bool:
    """Whether a file is what a review page downloads, by its header."""
    if path.suffix != ".csv":
        return False
    try:
        with path.open(encoding="utf-8-sig") as file:
            return {"image", "vote", "expert"} <= set(file.readline().strip().split(","))
    except (OSError, ValueError):
        return False


def read_reviews(paths: Sequence[Path]) -> Reviews:
    """Join the votes of several files; an expert's later vote on a figure replaces an earlier one.

    Raises
    ------
    DataError : a file is missing or no review, or a row is damaged.
    """
    rows = [_vote(place, record) for path in paths for place, record in read_records(path, COLUMNS)]
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: no vote, expected at least one")
    votes = DataFrame(rows)
    figure = ["image", "page_text"]
    final = votes.sort_values("time", kind="stable").drop_duplicates([*figure, "expert"], keep="last")
    notes = []
    if replaced := len(votes) - len(final):
        notes.append(f"{replaced} votes were replaced by a later one of the same expert.")
    if blind := int(final["blind"].sum()):
        notes.append(f"{blind} of {len(final)} votes were given without sight of the model's answer.")
    table = final.pivot(index=figure, columns="expert", values="vote")
    experts = list(dict.fromkeys(votes["expert"]))
    table = table[experts].fillna("")  # (figures, experts), each cell "1", "0" or ""
    notes += [_kappa(table, *pair) for pair in combinations(experts, 2)]

    figures = votes.drop_duplicates(figure).set_index(figure)[["image_", "page", "slide", "x", "y"]]
    figures = figures.rename(columns={"image_": "image"}).join(table.agg("".join, axis=1).rename("votes"))
    share = figures["votes"].str.count("1") / figures["votes"].str.len()  # NaN where nobody voted
    label = (share > 0.5).astype("Int64")
    figures["label"] = label.mask(share.isna() | (share == 0.5))
    words = {"1": "AMF", "0": "NMF", "": "-"}
    figures["detail"] = [
        ", ".join(f"{expert} {words[vote]}" for expert, vote in zip(experts, row, strict=True))
        for row in table.loc[figures.index].itertuples(index=False)
    ]
    ties, silent = int((share == 0.5).sum()), int(share.isna().sum())
    if ties:
        first = figures.loc[share == 0.5].iloc[0]
        notes.append(f"{ties} figures are ties; the first is {first['image']} ({first['detail']}).")
    if silent:
        notes.append(f"{silent} figures have no vote but unsure.")
    return Reviews(figures.reset_index(drop=True), notes)


def _vote(place: str, record: dict[str, str]) -> dict[str, object]:
    if record["vote"] not in VOTES:
        raise DataError(f"{place}: the vote is {record['vote']!r}, expected one of {', '.join(VOTES)}")
    if not record["image"] or not record["expert"]:
        raise DataError(f"{place}: image and expert must not be empty")
    try:
        return {
            "image": record["image"],
            "image_": record["image"],
            "page_text": record["page"],
            "page": int(record["page"]) if record["page"] else pd.NA,
            "slide": record["slide"],
            "x": float(record["x"] or "nan"),
            "y": float(record["y"] or "nan"),
            "vote": VOTES[record["vote"]],
            "expert": record["expert"],
            "blind": record.get("blind") == "yes",
            "time": pd.Timestamp(record["time"]).tz_convert("UTC"),
        }
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: {error}, expected what a review page downloads") from None


def _kappa(table: DataFrame, first: str, second: str) -> str:
    """Cohen's kappa on the figures of which both said something."""
    both = table[(table[first] != "") & (table[second] != "")]
    names = f"{first} and {second}"
    if both.empty:
        return f"Kappa between {names}: no figure in common."
    if pd.concat([both[first], both[second]]).nunique() == 1:
        return f"Kappa between {names}: not defined, both said the same of all {len(both)} figures."
    agreed = (both[first] == both[second]).mean()
    by_chance = sum((both[first] == vote).mean() * (both[second] == vote).mean() for vote in "01")
    kappa = (agreed - by_chance) / (1 - by_chance)
    return f"Kappa between {names}: {kappa:.3f} on {len(both)} figures."
