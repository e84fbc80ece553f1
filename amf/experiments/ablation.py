"""The augmentation ablation (paper, Augmentation Strategy Evaluation and Table 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pandas import DataFrame, Index, concat, isna

from amf.data.figures import Figures
from amf.experiments.folds import CrossValidation
from amf.experiments.paper import PAPER_METRICS, TABLE_1
from amf.experiments.plots import draw_ablation
from amf.experiments.record import markdown, write_csv, write_record
from amf.experiments.trial import scores_by_fold, trial_runs
from amf.files import write_text
from amf.training.recipe import BASELINE, Recipe

ABLATION = "ablation"


def ablation_runs(
    cells: Mapping[str, Recipe], figures: Figures, out: Path, folds: int
) -> list[CrossValidation]:
    """The table's rows on the same folds by slide, all from the same weights."""
    return trial_runs(cells, figures, out, folds, seed_by_fold=False)


def collect_ablation(runs: Sequence[CrossValidation], figures: Figures, out: Path) -> DataFrame:
    """Join the finished folds; write each fold's metrics, the table and the plot to `out`.

    Returns
    -------
    The table: see `differences`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    by_fold = scores_by_fold(runs, figures)
    table, baseline, folds = differences(by_fold), runs[0].recipe, len(runs[0].splits)
    write_csv(by_fold, out / f"{ABLATION}-folds.csv")
    write_csv(table, out / f"{ABLATION}.csv", index="cell")
    write_text(out / f"{ABLATION}.md", ablation_report(baseline, figures, table, folds))
    variants = table.drop(index=BASELINE)
    draw_ablation(variants, _paper_table(variants.index), out / f"{ABLATION}.png")
    cells = [run.name for run in runs]
    write_record(out, figures, recipe=baseline.model_dump(mode="json"), cells=cells, folds=folds)
    return table


def differences(by_fold: DataFrame) -> DataFrame:
    """Table 1 out of the scores of every cell and fold.

    As the paper's caption has it, the baseline's means are absolute, the others' are mean differences to it,
    and every std is the configuration's own over the folds (n − 1), not that of the differences.

    Parameters
    ----------
    by_fold : variant (the cell), fold and PAPER_METRICS, one row a cell and fold.

    Returns
    -------
    One row a cell: PAPER_METRICS, each with its "… std", and "folds better", in how many folds its BA is
    above the baseline's.
    """
    metrics = list(PAPER_METRICS)
    cells = by_fold.groupby("variant", sort=False)[metrics]
    mean, std = cells.mean(), cells.std()
    variants = mean.index != BASELINE
    mean.loc[variants] -= mean.loc[BASELINE]
    wide = by_fold.pivot(index="fold", columns="variant", values="BA")
    better = wide.gt(wide[BASELINE], axis=0).sum()
    table = concat([mean, std.add_suffix(" std")], axis=1)
    return table.assign(**{"folds better": better.reindex(table.index)})


def ablation_report(recipe: Recipe, figures: Figures, table: DataFrame, folds: int) -> str:
    """Our table as Markdown, each column beside the paper's."""
    theirs = _paper_table(table.index)
    columns: dict[str, list[str]] = {}
    for metric in PAPER_METRICS:
        columns[metric] = [_cell(table, name, metric) for name in table.index]
        columns[f"{metric}, paper"] = [_cell(theirs, name, metric) for name in table.index]
    columns["folds better"] = [
        "" if name == BASELINE else f"{better} of {folds}" for name, better in table["folds better"].items()
    ]
    return "\n".join(
        [
            f"Recipe {recipe.name} ({recipe.model.backbone}, weights {recipe.model.weights}), seed "
            f"{recipe.optimise.seed}, table {figures.table_hash[:12]} ({len(figures.table)} figures), "
            f"{folds} folds. Baseline absolute; others: mean difference to the baseline ± std of the "
            "configuration over the folds (n − 1), at threshold 0.5.",
            "",
            markdown(DataFrame(columns, index=table.index), "configuration"),
        ]
    )


def _paper_table(cells: Index) -> DataFrame:
    """The paper's Table 1 in the columns of `differences`, NaN where it has no such row."""
    columns = [f"{metric}{suffix}" for metric in PAPER_METRICS for suffix in ("", " std")]
    rows = {cell: [number for pair in values for number in pair] for cell, values in TABLE_1.items()}
    return DataFrame.from_dict(rows, orient="index", columns=columns).reindex(cells)


def _cell(table: DataFrame, name: str, metric: str) -> str:
    mean, std = table[metric][name], table[f"{metric} std"][name]
    if isna(mean):
        return "–"
    return f"{mean:{'' if name == BASELINE else '+'}.3f} ± {std:.3f}"
