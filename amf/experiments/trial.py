"""A trial: one recipe and changed copies of it, cross-validated side by side on the same folds by slide."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pandas import DataFrame
from scipy.special import expit

from amf.data.figures import Figures
from amf.data.splits import group_kfold
from amf.experiments.folds import CrossValidation, join_folds, slug
from amf.experiments.paper import paper_metrics
from amf.experiments.record import markdown, write_csv, write_record
from amf.files import write_text
from amf.training.recipe import BASELINE, Recipe

TRIAL = "trial"


def trial_runs(
    variants: Mapping[str, Recipe], figures: Figures, out: Path, folds: int, seed_by_fold: bool = True
) -> list[CrossValidation]:
    """The variants, BASELINE first, each on the same folds by slide and in a folder of its own.

    Between variants weights and draws never differ by seed; between folds they do with `seed_by_fold`.
    """
    splits = group_kfold(figures.table, folds, variants[BASELINE].optimise.seed)
    return [
        CrossValidation(name, recipe, splits, out / slug(name), seed_by_fold)
        for name, recipe in variants.items()
    ]


def scores_by_fold(runs: Sequence[CrossValidation], figures: Figures) -> DataFrame:
    """Join all variants: one row a variant and fold, with the paper's metrics at 0.5.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    rows = []
    for run in runs:
        for fold, own in join_folds(run, figures).groupby("fold"):
            metrics = paper_metrics(expit(own["logit"]), own["label"])
            rows.append({"variant": run.name, "fold": fold, **metrics})
    return DataFrame(rows)


def collect_trial(runs: Sequence[CrossValidation], figures: Figures, out: Path) -> DataFrame:
    """Join all variants; write each fold's metrics and the table to `out`.

    Returns
    -------
    See `paired_differences`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    by_fold = scores_by_fold(runs, figures)
    table, base, folds = paired_differences(by_fold), runs[0].recipe, len(runs[0].splits)
    write_csv(by_fold, out / f"{TRIAL}-folds.csv")
    seeds = f"{base.optimise.seed} to {base.optimise.seed + folds - 1}"
    write_text(
        out / f"{TRIAL}.md",
        f"Recipe {base.name}, table {figures.table_hash[:12]} ({len(figures.table)} figures), {folds} folds "
        f"by slide with the seeds {seeds}. Baseline absolute, mean ± std over the folds; others: mean ± std "
        f"of the differences to the baseline, fold by fold (n − 1).\n\n{markdown(table, 'variant')}",
    )
    write_record(out, figures, variants={run.name: run.recipe.model_dump(mode="json") for run in runs})
    return table


def paired_differences(by_fold: DataFrame) -> DataFrame:
    """AUC and BA at 0.5 of the baseline, and the others' differences to it on the same fold and seed.

    Parameters
    ----------
    by_fold : variant, fold, AUC and BA, one row a variant and fold.

    Returns
    -------
    One row a variant, in their order: "AUC", "BA at 0.5" as text, and "AUC better", in how many folds.
    """
    rows: dict[str, dict[str, str]] = {str(name): {} for name in by_fold["variant"].unique()}
    for column, metric in (("AUC", "AUC"), ("BA at 0.5", "BA")):
        wide = by_fold.pivot(index="fold", columns="variant", values=metric)
        for name, row in rows.items():
            values, form = (wide[name], "") if name == BASELINE else (wide[name] - wide[BASELINE], "+")
            row[column] = f"{values.mean():{form}.4f} ± {values.std():.4f}"
            if metric == "AUC":
                row["AUC better"] = "" if name == BASELINE else f"{(values > 0).sum()} of {len(values)}"
    return DataFrame.from_dict(rows, orient="index")[["AUC", "BA at 0.5", "AUC better"]]
