"""The augmentation ablation (paper, Augmentation Strategy Evaluation and Table 1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pandas import DataFrame

from amf.data.figures import Figures
from amf.experiments.folds import CrossValidation
from amf.experiments.paper import PAPER_METRICS, TABLE_1
from amf.experiments.plots import draw_ablation
from amf.experiments.record import markdown, write_csv, write_record
from amf.experiments.trial import differences, folds_better, in_words, scores_by_fold, trial_runs
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

    As the caption of the paper's table has it, the baseline's means are absolute, the others' are mean
    differences to it, and every std is the configuration's own over the folds (n − 1).

    Returns the `differences`; raises as `join_folds`.
    """
    by_fold = scores_by_fold(runs, figures)
    table, theirs = differences(by_fold, paired=False), paper_table([run.name for run in runs])
    recipe, folds = runs[0].recipe, len(runs[0].splits)
    texts: dict[str, list[str]] = {}
    for metric in PAPER_METRICS:
        texts[metric] = [in_words(table, cell, metric) for cell in table.index]
        texts[f"{metric}, paper"] = [in_words(theirs, cell, metric) for cell in table.index]
    texts["folds better"] = folds_better(table, "BA", folds)
    write_csv(by_fold, out / f"{ABLATION}-folds.csv")
    write_csv(table, out / f"{ABLATION}.csv", index="cell")
    write_text(
        out / f"{ABLATION}.md",
        f"Recipe {recipe.name} ({recipe.model.backbone}, weights {recipe.model.weights}), seed "
        f"{recipe.optimise.seed}, table {figures.table_hash[:12]} ({len(figures.table)} figures), {folds} "
        "folds. Baseline absolute; others: mean difference to the baseline ± std of the configuration over "
        "the folds (n − 1), at threshold 0.5.\n\n"
        + markdown(DataFrame(texts, index=table.index), "configuration"),
    )
    draw_ablation(table.drop(index=BASELINE), theirs.drop(index=BASELINE), out / f"{ABLATION}.png")
    cells = [run.name for run in runs]
    write_record(out, figures, recipe=recipe.model_dump(mode="json"), cells=cells, folds=folds)
    return table


def paper_table(cells: Sequence[str]) -> DataFrame:
    """Rows of the paper's Table 1 in the columns of `differences`, NaN where it has no such row."""
    columns = [f"{metric}{suffix}" for metric in PAPER_METRICS for suffix in ("", " std")]
    rows = {cell: [number for pair in values for number in pair] for cell, values in TABLE_1.items()}
    return DataFrame.from_dict(rows, orient="index", columns=columns).reindex(list(cells))
