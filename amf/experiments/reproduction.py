"""The page at the end of a reproduction: the paper's numbers beside ours, and what differed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from pandas import DataFrame

from amf.experiments import paper
from amf.experiments.calibration import Calibration
from amf.experiments.record import MEAN, STD, versions
from amf.experiments.scores import called, score_domains, score_groups
from amf.files import write_text
from amf.training.recipe import BASELINE, Recipe

RECALLS = ("BA", "AMF recall", "NMF recall")
Row = list[str]
Rows = list[Row]


def write_page(
    path: Path,
    *,
    name: str,
    results: Mapping[str, Any],
    lodo: Mapping[str, DataFrame],
    ranking: DataFrame,
    chosen: Recipe,
    out_of_fold: DataFrame,
    ablation: DataFrame,
    calibration: Calibration,
    metrics: Mapping[str, Any],
    spans: Mapping[str, float],
) -> None:
    """Write the page: one HTML file that needs nothing else.

    Parameters
    ----------
    results : of the stages, by name. lodo : summaries of the LODO runs by recipe, the paper's choice first.
    ranking : of the grid's combinations; chosen : the first of them; out_of_fold : its predictions.
    metrics : of the evaluation, as metrics.json holds them. spans : seconds by stage.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amf.experiments", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    first, summary = next(iter(lodo.items()))
    text = environment.get_template("reproduction.html.jinja").render(
        title=f"Reproduction: {name}",
        first=first,
        chosen=chosen.name,
        tiles=[
            (
                "BA over domains, at 0.5",
                number(summary["BA at 0.5"][MEAN]),
                f"paper {paper.LODO['BA'][0]:.3f}",
            ),
            *(
                (
                    f"{kind}, at 0.5",
                    number(summary[f"{kind} at 0.5"][MEAN]),
                    f"paper {paper.LODO[kind][0]:.3f}",
                )
                for kind in RECALLS[1:]
            ),
        ],
        differences=what_differs(results, chosen),
        stages=stages(results, lodo, ranking, chosen, calibration, metrics, spans),
        domains=domain_rows(score_domains(called(out_of_fold))),
        groups=group_rows(out_of_fold),
        group_columns=list(GROUP_COLUMNS),
        ranking=[
            [str(index), *(number(row[column]) for column in RANKED)] for index, row in ranking.iterrows()
        ],
        ranked=list(RANKED),
        comparisons=results["lodo"]["comparisons"],
        ablation=ablation_rows(ablation),
        metric_names=paper.PAPER_METRICS,
        versions=versions(),
    )
    write_text(path, text)


RANKED = ("BA fitted: mean", "BA fitted: std", "BA at 0.5: mean", "AUC: mean")


def what_differs(results: Mapping[str, Any], chosen: Recipe) -> Rows:
    """What was not the paper's, or cannot be known to be: the data, the weights, the seeds, open values."""
    counts = results["table"]["counts"]
    rows = [[key, f"{paper.DATA[key]:,}", f"{counts[key]:,}"] for key in paper.DATA]
    for name, files in results["fetch"]["data"].items():
        pages = "; ".join(f"{record['page']} ({record['licence']})" for record in files)
        rows.append([f"data set {name}", "version not given", pages or "put there by hand, unchecked"])
    for name, weights in results["fetch"]["weights"].items():
        rows.append([f"weights of {name}", "digest not given", weights])
    rows.append(["seed", "not given", str(chosen.optimise.seed)])
    lora = chosen.model.lora
    if lora:
        rows.append(
            ["LoRA", "values not given", f"rank {lora.rank}, alpha {lora.alpha:g}, dropout {lora.dropout}"]
        )
    rows.append(["labels", "soft (text), 0 or 1 (formula)", chosen.loss.labels])
    rows.append(["class ratio of w₊", "not said of which figures", chosen.loss.adaptive_over])
    rows.append(["patch table", "–", results["table"]["table"][:16]])
    return rows


def stages(
    results: Mapping[str, Any],
    lodo: Mapping[str, DataFrame],
    ranking: DataFrame,
    chosen: Recipe,
    calibration: Calibration,
    metrics: Mapping[str, Any],
    spans: Mapping[str, float],
) -> Rows:
    """One row a stage: the paper's number, ours, hours."""
    theirs = ", ".join(f"{kind} {mean:.3f} ± {std:.3f}" for kind, (mean, std) in paper.LODO.items())
    rows = []
    for number_of, (name, summary) in enumerate(lodo.items()):
        ours = ", ".join(f"{kind} {spread(summary, f'{kind} at 0.5')}" for kind in paper.LODO)
        said = theirs if number_of == 0 else "evaluated; no number given"
        rows.append([f"LODO of {name}", said, ours, _hours(spans, "lodo") if number_of == 0 else ""])
    rows += [
        ["LoRA's hyperparameters", "selected by LODO; values not given",
         f"{ranking.index[0]}, of {len(ranking)} combinations", _hours(spans, "grid")],
        ["horizon", "by LODO; not given",
         f"{results['horizon']['epochs']} of {chosen.optimise.epochs} epochs", _hours(spans, "horizon")],
        ["ablation", "Table 1: medium is best of the composites", "see below", _hours(spans, "ablation")],
        ["final run", "95 % to train on, 5 % to stop by",
         f"the same, {len(results['final']['members'])} member(s)", _hours(spans, "final")],
        ["calibration", "none, threshold 0.5",
         f"temperature {calibration.temperature:.3f}, bias {calibration.bias:+.3f}, "
         f"threshold {calibration.threshold:.3f}", _hours(spans, "calibration")],
    ]  # fmt: skip
    aggregates = metrics["aggregates"]
    rows.append(
        [
            "evaluation",
            f"hidden final test: BA {paper.CHALLENGE['BA']:.4f}, AUC {paper.CHALLENGE['AUC']:.4f}",
            f"out of fold, all figures pooled: BA {_overall(aggregates, 'balanced_accuracy')}, "
            f"AUC {_overall(aggregates, 'roc_auc')} (other figures: the two do not compare)",
            _hours(spans, "evaluation"),
        ]
    )
    return rows


def _overall(aggregates: Mapping[str, Any], kind: str) -> str:
    return number(aggregates[f"overall_{kind}"])


def domain_rows(summary: DataFrame) -> Rows:
    """One row a held-out domain, beside the paper's where it names the domain."""
    rows = []
    for domain, row in summary.iterrows():
        theirs = paper.LODO_DOMAINS.get(str(domain), {})
        cells = []
        for kind in RECALLS:
            cells += [number(row[f"{kind} at {paper.THRESHOLD}"]), number(theirs.get(kind))]
        fitted = [number(row["BA fitted"]), number(row["AUC"])]
        rows.append([str(domain), str(int(row["n"])), str(int(row["AMF"])), *cells, *fitted])
    return rows


GROUP_COLUMNS = ("BA at 0.5", "BA fitted", "AMF recall fitted", "NMF recall fitted", "AUC")


def group_rows(out_of_fold: DataFrame) -> Rows:
    """Species, then tumours: all figures pooled, and the range of BA over its domains, as in the paper."""
    rows = []
    for group, row in score_groups(called(out_of_fold)).iterrows():
        low, high = (number(row[f"{end} domain's BA at 0.5"]) for end in ("lowest", "highest"))
        theirs = paper.LODO_SPECIES.get(str(group).removeprefix("species: "))
        rows.append(
            [
                str(group),
                str(int(row["n"])),
                str(int(row["AMF"])),
                *(number(row[column]) for column in GROUP_COLUMNS),
                f"{low} to {high}",
                f"{theirs[0]:.3f} to {theirs[1]:.3f}" if theirs else "–",
            ]
        )
    return rows


def ablation_rows(table: DataFrame) -> Rows:
    """Table 1: ours and the paper's, metric by metric."""
    rows = []
    for cell in table.index:
        row = [str(cell)]
        for metric, (mean, std) in zip(paper.PAPER_METRICS, paper.TABLE_1[str(cell)], strict=True):
            sign = "" if cell == BASELINE else "+"
            row.append(f"{table[metric][cell]:{sign}.3f} ± {table[f'{metric} std'][cell]:.3f}")
            row.append(f"{mean:{sign}.3f} ± {std:.3f}")
        rows.append(row)
    return rows


def spread(summary: DataFrame, column: str) -> str:
    """Mean ± std over domains."""
    return f"{number(summary[column][MEAN])} ± {number(summary[column][STD])}"


def number(value: Any) -> str:
    """Three digits, or a dash where there is no number."""
    return "–" if value is None or pd.isna(value) else f"{float(value):.3f}"


def _hours(spans: Mapping[str, float], stage: str) -> str:
    return f"{spans[stage] / 3600:.2f}" if stage in spans else "–"
