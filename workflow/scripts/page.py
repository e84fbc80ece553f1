"""The page at the end of a reproduction: the paper's numbers beside ours, and what differed."""

import json
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from pandas import DataFrame

from amf.experiments import paper
from amf.experiments.lodo import read_lodo
from amf.experiments.record import MEAN, STD, versions, with_mean_and_std
from amf.experiments.scores import called, score_domains, score_groups
from amf.files import write_text
from amf.training.recipe import BASELINE, Recipe

RECALLS = ("BA", "AMF recall", "NMF recall")
RANKED = ("BA fitted: mean", "BA fitted: std", "BA at 0.5: mean", "AUC: mean")
GROUP_COLUMNS = ("BA at 0.5", "BA fitted", "AMF recall fitted", "NMF recall fitted", "AUC")
Row = list[str]


def number(value: Any) -> str:
    """Three digits, or a dash where there is no number."""
    return "–" if value is None or pd.isna(value) else f"{float(value):.3f}"


def spread(summary: DataFrame, column: str) -> str:
    """Mean ± std over domains."""
    return f"{number(summary[column][MEAN])} ± {number(summary[column][STD])}"


def differences(table: DataFrame, weights: list[Path], fetched: list[Path], chosen: Recipe) -> list[Row]:
    """What was not the paper's, or cannot be known to be: data, weights, seed, values it leaves open."""
    counts = {
        "figures": len(table),
        "AMF": int(table["label"].sum()),
        "slides": table["slide"].nunique(),
        "domains": table["domain"].nunique(),
    }
    rows = [[key, f"{paper.DATA[key]:,}", f"{count:,}"] for key, count in counts.items()]
    for said in fetched:  # by `amf fetch`: title, page and licence, or that it was there already
        rows.append([f"data set {said.stem}", "version not given", " ".join(said.read_text("utf-8").split())])
    for said in weights:
        backbone, found = said.read_text("utf-8").strip().split(": ", 1)
        rows.append([f"weights of {backbone}", "digest not given", found])
    if lora := chosen.model.lora:
        values = f"rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout}"
        rows.append(["LoRA", "values not given", values])
    return [
        *rows,
        ["seed", "not given", str(chosen.optimise.seed)],
        ["labels", "soft (text), 0 or 1 (formula)", chosen.loss.labels],
        ["class ratio of w₊", "not said of which figures", chosen.loss.adaptive_over],
    ]


def stages(
    lodo: dict[str, DataFrame], ranking: DataFrame, bundle: dict[str, Any], metrics: dict[str, Any]
) -> list[Row]:
    """One row a stage: the paper's number and ours."""
    theirs = [", ".join(f"{kind} {mean:.3f} ± {std:.3f}" for kind, (mean, std) in paper.LODO.items())]
    rows = [
        [
            f"LODO of {name}",
            said,
            ", ".join(f"{kind} {spread(summary, f'{kind} at 0.5')}" for kind in paper.LODO),
        ]
        for (name, summary), said in zip(
            lodo.items(), theirs + ["evaluated; no number given"] * (len(lodo) - 1), strict=True
        )
    ]
    overall = {
        kind: number(metrics["aggregates"][f"overall_{kind}"]) for kind in ("balanced_accuracy", "roc_auc")
    }
    made_with = bundle["provenance"]["made_with"]
    return [
        *rows,
        ["LoRA's hyperparameters", "selected by LODO; values not given",
         f"{ranking.index[0]}, of {len(ranking)} combinations"],
        ["horizon", "by LODO; not given", f"best epoch {made_with['best epoch by member']}"],
        ["ablation", "Table 1: medium is best of the composites", "see below"],
        ["final run", "95 % to train on, 5 % to stop by", f"the same, {len(bundle['members'])} member(s)"],
        ["calibration", "none, threshold 0.5",
         ", ".join(f"{key} {bundle[key]:.3f}" for key in ("temperature", "bias", "threshold"))],
        ["evaluation", f"hidden final test: BA {paper.CHALLENGE['BA']:.4f}, AUC {paper.CHALLENGE['AUC']:.4f}",
         f"out of fold, all figures pooled: BA {overall['balanced_accuracy']}, AUC {overall['roc_auc']} "
         "(other figures: the two do not compare)"],
    ]  # fmt: skip


def domain_rows(summary: DataFrame) -> list[Row]:
    """One row a held-out domain, beside the paper's where it names the domain."""
    rows = []
    for domain, row in summary.iterrows():
        theirs = paper.LODO_DOMAINS.get(str(domain), {})
        pairs = [(row[f"{kind} at {paper.THRESHOLD}"], theirs.get(kind)) for kind in RECALLS]
        cells = [number(value) for pair in pairs for value in pair]
        fitted = [number(row["BA fitted"]), number(row["AUC"])]
        rows.append([str(domain), str(int(row["n"])), str(int(row["AMF"])), *cells, *fitted])
    return rows


def group_rows(groups: DataFrame) -> list[Row]:
    """Species, then tumours: all figures pooled, and the range of BA over its domains, as in the paper."""
    rows = []
    for group, row in groups.iterrows():
        low, high = (number(row[f"{end} domain's BA at 0.5"]) for end in ("lowest", "highest"))
        theirs = paper.LODO_SPECIES.get(str(group).removeprefix("species: "))
        scores = [number(row[column]) for column in GROUP_COLUMNS]
        said = f"{theirs[0]:.3f} to {theirs[1]:.3f}" if theirs else "–"
        rows.append([str(group), str(int(row["n"])), str(int(row["AMF"])), *scores, f"{low} to {high}", said])
    return rows


def ablation_rows(table: DataFrame) -> list[Row]:
    """Table 1: ours and the paper's, metric by metric."""
    rows = []
    for cell in map(str, table.index):
        row, sign = [cell], "" if cell == BASELINE else "+"
        theirs = [f"{mean:{sign}.3f} ± {std:.3f}" for mean, std in paper.TABLE_1.get(cell, [])]
        for number, metric in enumerate(paper.PAPER_METRICS):
            row.append(f"{table[metric][cell]:{sign}.3f} ± {table[f'{metric} std'][cell]:.3f}")
            row.append(theirs[number] if theirs else "–")
        rows.append(row)
    return rows


def paragraphs(comparison: str) -> list[str]:
    """What `amf lodo --compare` says of two runs, without its table and definitions."""
    return [text for text in comparison.split("\n\n") if text.startswith(("A = ", "B − A"))]


given = snakemake.input
runs = [read_lodo([Path(run)]) for run in snakemake.params.runs]  # the chosen one first
chosen, recipes = runs[0], [run.members[0].recipe for run in runs]
summaries = [with_mean_and_std(score_domains(called(run.predictions))) for run in runs]
table, ranking = pd.read_csv(given.table), pd.read_csv(given.ranking, index_col=0)
bundle, metrics = (json.loads(Path(path).read_text("utf-8")) for path in (given.bundle, given.metrics))
weights, fetched = (list(map(Path, paths)) for paths in (given.weights, given.fetched))
environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
text = environment.get_template("page.html.jinja").render(
    chosen=recipes[0].name,
    tiles=[
        (f"{kind} over domains, at 0.5", number(summaries[0][f"{kind} at 0.5"][MEAN]), f"paper {mean:.3f}")
        for kind, (mean, _) in paper.LODO.items()
    ],
    stages=stages(
        {recipe.name: summary for recipe, summary in zip(recipes, summaries, strict=True)},
        ranking,
        bundle,
        metrics,
    ),
    differences=differences(table, weights, fetched, recipes[0]),
    domains=domain_rows(summaries[0].drop(index=[MEAN, STD])),
    groups=group_rows(score_groups(called(chosen.predictions))),
    group_columns=GROUP_COLUMNS,
    ranking=[[str(name), *(number(row[column]) for column in RANKED)] for name, row in ranking.iterrows()],
    ranked=RANKED,
    comparisons=[text for path in given.comparisons for text in paragraphs(Path(path).read_text("utf-8"))],
    ablation=ablation_rows(pd.read_csv(given.ablation, index_col=0)),
    metric_names=paper.PAPER_METRICS,
    versions=versions(),
)
write_text(Path(snakemake.output[0]), text)
