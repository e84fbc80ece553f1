"""A trial: one recipe and changed copies of it, cross-validated side by side on the same folds by slide."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pandas import DataFrame, concat
from scipy.special import expit

from amf.data.figures import Figures
from amf.data.splits import group_kfold
from amf.experiments.folds import CrossValidation, join_folds, slug
from amf.experiments.paper import PAPER_METRICS, paper_metrics
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
    """One row a variant and fold, with the paper's metrics at 0.5; raises as `join_folds`."""
    rows = []
    for run in runs:
        for fold, own in join_folds(run, figures).groupby("fold"):
            metrics = paper_metrics(expit(own["logit"]), own["label"])
            rows.append({"variant": run.name, "fold": fold, **metrics})
    return DataFrame(rows)


def differences(by_fold: DataFrame, paired: bool) -> DataFrame:
    """Every variant's mean scores over the folds less the baseline's; the baseline's own are absolute.

    Parameters
    ----------
    by_fold : see `scores_by_fold`.
    paired : whether a std (n − 1) is that of the differences, fold by fold, or the variant's own.

    Returns
    -------
    One row a variant, in their order: PAPER_METRICS, each with its "… std" and "… better", in how many folds.
    """
    columns = []
    for metric in PAPER_METRICS:
        scores = by_fold.pivot(index="fold", columns="variant", values=metric)
        gains = scores.sub(scores[BASELINE], axis=0).assign(**{BASELINE: scores[BASELINE]})
        std = (gains if paired else scores).std()
        better = (scores.gt(scores[BASELINE], axis=0)).sum()
        columns += [
            gains.mean().rename(metric),
            std.rename(f"{metric} std"),
            better.rename(f"{metric} better"),
        ]
    return concat(columns, axis=1).loc[by_fold["variant"].unique()]


def in_words(table: DataFrame, variant: str, metric: str, digits: int = 3) -> str:
    """A cell of `differences` with its std; a dash where there is none."""
    mean, std = table[metric][variant], table[f"{metric} std"][variant]
    sign = "" if variant == BASELINE else "+"
    return f"{mean:{sign}.{digits}f} ± {std:.{digits}f}" if mean == mean else "–"


def folds_better(table: DataFrame, metric: str, folds: int) -> list[str]:
    """In how many folds each variant of `differences` is better than the baseline, in words."""
    better = table[f"{metric} better"]
    return ["" if variant == BASELINE else f"{better[variant]} of {folds}" for variant in table.index]


def collect_trial(runs: Sequence[CrossValidation], figures: Figures, out: Path) -> DataFrame:
    """Join all variants; write each fold's metrics and the table of AUC and BA to `out`.

    Returns the `differences`; raises as `join_folds`.
    """
    by_fold = scores_by_fold(runs, figures)
    table, base, folds = differences(by_fold, paired=True), runs[0].recipe, len(runs[0].splits)
    texts = DataFrame(
        {
            "AUC": [in_words(table, name, "AUC", 4) for name in table.index],
            "BA at 0.5": [in_words(table, name, "BA", 4) for name in table.index],
            "AUC better": folds_better(table, "AUC", folds),
        },
        index=table.index,
    )
    seeds = f"{base.optimise.seed} to {base.optimise.seed + folds - 1}"
    write_csv(by_fold, out / f"{TRIAL}-folds.csv")
    write_text(
        out / f"{TRIAL}.md",
        f"Recipe {base.name}, table {figures.table_hash[:12]} ({len(figures.table)} figures), {folds} folds "
        f"by slide with the seeds {seeds}. Baseline absolute, mean ± std over the folds; others: mean ± std "
        f"of the differences to the baseline, fold by fold (n − 1).\n\n{markdown(texts, 'variant')}",
    )
    write_record(out, figures, variants={run.name: run.recipe.model_dump(mode="json") for run in runs})
    return table
