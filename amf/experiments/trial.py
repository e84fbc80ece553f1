"""A trial: one recipe and changed copies of it, cross-validated side by side on the same folds by slide."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pandas import DataFrame, concat, isna
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


def collect_trial(
    runs: Sequence[CrossValidation],
    figures: Figures,
    out: Path,
    stem: str = TRIAL,
    theirs: DataFrame | None = None,
) -> DataFrame:
    """Join all variants; write STEM-folds.csv, STEM.csv, STEM.md and a record to `out`.

    Where there is `theirs`, the same table of others, its numbers stand beside ours, and no std is paired.
    Returns the `differences`; raises as `join_folds`.
    """
    by_fold, base, folds = scores_by_fold(runs, figures), runs[0].recipe, len(runs[0].splits)
    table = differences(by_fold, paired=theirs is None)
    texts: dict[str, list[str]] = {}
    for metric in PAPER_METRICS:
        texts[metric] = [_in_words(table, name, metric, 4 if theirs is None else 3) for name in table.index]
        if theirs is not None:
            texts[f"{metric}, paper"] = [_in_words(theirs, name, metric, 3) for name in table.index]
    for metric in ("BA", "AUC"):
        better = table[f"{metric} better"].items()
        texts[f"{metric} better"] = ["" if name == BASELINE else f"{n} of {folds}" for name, n in better]
    seeds = ", ".join(str(runs[0].recipe_in(fold).optimise.seed) for fold in range(folds))
    write_csv(by_fold, out / f"{stem}-folds.csv")
    write_csv(table, out / f"{stem}.csv", index="variant")
    write_text(
        out / f"{stem}.md",
        f"Recipe {base.name} ({base.model.backbone}, weights {base.model.weights}), table "
        f"{figures.table_hash[:12]} ({len(figures.table)} figures), {folds} folds by slide with the seeds "
        f"{seeds}, at threshold 0.5. Baseline absolute; others: mean difference to the baseline ± std "
        f"(n − 1) over the folds, {'of the differences' if theirs is None else 'of the configuration'}.\n\n"
        + markdown(DataFrame(texts, index=table.index), "variant"),
    )
    write_record(out, figures, variants={run.name: run.recipe.model_dump(mode="json") for run in runs})
    return table


def _in_words(table: DataFrame, variant: str, metric: str, digits: int) -> str:
    mean, std = table[metric][variant], table[f"{metric} std"][variant]
    sign = "" if variant == BASELINE else "+"
    return "–" if isna(mean) else f"{mean:{sign}.{digits}f} ± {std:.{digits}f}"
