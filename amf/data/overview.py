"""What a reader checks before trusting a table: counts to compare with the paper, examples, prevalence."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame

from amf.augmentation.contact_sheet import contact_sheet
from amf.data.palette import PURPLE
from amf.data.table import vote_conflicts
from amf.files import written_whole


def count_table(table: DataFrame, by: str) -> DataFrame:
    """Figures, AMF, AMF prevalence in percent and slides for each value of a column, and in total."""

    def counts(rows: DataFrame) -> dict[str, float]:
        amf = int(rows["label"].sum())
        percent = round(100 * amf / len(rows), 1)
        return {"figures": len(rows), "AMF": amf, "AMF %": percent, "slides": rows["slide"].nunique()}

    groups = {str(name): counts(rows) for name, rows in table.groupby(by)}
    types = {"figures": int, "AMF": int, "AMF %": float, "slides": int}
    return DataFrame.from_dict({**groups, "total": counts(table)}, orient="index").astype(types)


def describe_table(table: DataFrame) -> str:
    """One sentence with what the paper reports of its data set, and the vote/majority conflicts."""
    columns = ("domain", "species", "tumor", "scanner", "origin")
    kinds = ", ".join(f"{column} {table[column].nunique()}" for column in columns)
    return (
        f"{len(table)} figures, {table['label'].sum()} AMF, {table['slide'].nunique()} slides; "
        f"different values: {kinds}; "
        f"labels that the majority of their votes contradicts: {len(vote_conflicts(table))}"
    )


def count_removed(removed: DataFrame) -> DataFrame:
    """Number of rows left out, by reason and data set ("?" for a row too broken to tell)."""
    columns = removed.assign(dataset=removed["dataset"].fillna("?"))
    return columns.groupby(["reason", "dataset"]).size().rename("rows").reset_index()


def draw_prevalence(table: DataFrame, path: Path) -> None:
    """Bar plot (PNG) of the AMF prevalence of each domain, with its number of figures."""
    counts = count_table(table, "domain").drop(index="total").sort_values("AMF %")
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(counts)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(counts.index, counts["AMF %"], color=PURPLE)
    axes.bar_label(bars, [f"{n} figures" for n in counts["figures"]], padding=4)
    overall = 100 * float(table["label"].mean())
    axes.axvline(overall, color="black", linewidth=1, linestyle="--", label=f"all: {overall:.1f} %")
    axes.set(xlabel="atypical among the mitotic figures, %", xlim=(0, 1.25 * counts["AMF %"].max() + 1))
    axes.legend(loc="lower right")
    with written_whole(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def draw_examples(table: DataFrame, patches: NDArray[np.uint8], path: Path, examples: int = 6) -> None:
    """Image (PNG) of random examples: one line a domain, AMF on the left, NMF on the right.

    Parameters
    ----------
    table : N rows.
    patches : (N, 128, 128, 3), row by row of the table.
    examples : patches per class and domain; fewer where a domain has fewer.
    """
    generator = np.random.default_rng(0)
    lines = []
    for domain in sorted(table["domain"].unique()):
        strips = []
        for label, name in ((1, "AMF"), (0, "NMF")):
            rows = np.flatnonzero((table["domain"] == domain) & (table["label"] == label))
            chosen = generator.permutation(rows)[:examples]
            strips.append((f"{name} ({len(rows)}): {domain}", np.asarray(patches[chosen])))
        lines.append(strips)
    with written_whole(path) as partial:
        contact_sheet(lines, examples).save(partial, format="PNG")
