"""The augmentation ablation (paper, Augmentation Strategy Evaluation and Table 1)."""

from collections.abc import Sequence
from pathlib import Path

from pandas import DataFrame, concat

from amf.data.figures import Figures
from amf.experiments.paper import PAPER_METRICS, TABLE_1
from amf.experiments.plots import draw_ablation
from amf.experiments.record import markdown, write_record
from amf.experiments.trial import Trial
from amf.files import write_text, written_whole
from amf.training.recipe import BASELINE, Recipe, override

FOLDS = 5
TABLE = "ablation"

# Table 1's rows: (augmentation, MixUp). The paper does not say what its MixUp rows had besides: nothing here.
CELLS: dict[str, tuple[str, str | None]] = {
    BASELINE: ("none", None),
    **{
        name: (name, None)
        for name in (
            "flip_rotate", "color", "blur_noise", "distortion", "cutout", "rass", "basic", "medium", "heavy",
        )
    },
    "mixup_standard": ("none", "standard"),
    "mixup_strong": ("none", "strong"),
    "mixup_domain_aware": ("none", "domain_aware"),
}  # fmt: skip


def ablation_trial(recipe: Recipe, cells: Sequence[str] = tuple(CELLS), folds: int = FOLDS) -> Trial:
    """The recipe with the augmentation and MixUp of some rows of the table, from the same weights."""
    variants = {
        cell: override(
            recipe,
            {"name": f"{recipe.name}: {cell}", "augmentation": CELLS[cell][0], "mixup": CELLS[cell][1]},
        )
        for cell in cells
    }
    return Trial(variants, folds, seed_by_fold=False)


def collect_ablation(trial: Trial, figures: Figures, out: Path) -> DataFrame:
    """Join the finished folds; write each fold's metrics, the table and the plot to `out`.

    Returns
    -------
    The table: see `differences`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    by_fold = trial.by_fold(figures, out)
    table = differences(by_fold)
    with written_whole(out / f"{TABLE}-folds.csv") as partial:
        by_fold.to_csv(partial, index=False)
    with written_whole(out / f"{TABLE}.csv") as partial:
        table.to_csv(partial, index_label="cell")
    baseline = trial.variants[BASELINE]
    write_text(out / f"{TABLE}.md", ablation_report(baseline, figures, table, trial.folds))
    variants = table.drop(index=BASELINE)
    draw_ablation(variants, _paper_table().reindex(variants.index), out / f"{TABLE}.png")
    write_record(
        out, figures, recipe=baseline.model_dump(mode="json"), cells=list(trial.variants), folds=trial.folds
    )
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
    paper = _paper_table()
    columns: dict[str, list[str]] = {}
    for metric in PAPER_METRICS:
        columns[metric] = [_cell(table, cell, metric) for cell in table.index]
        columns[f"{metric}, paper"] = [_cell(paper, cell, metric) for cell in table.index]
    columns["folds better"] = [
        "" if cell == BASELINE else f"{better} of {folds}" for cell, better in table["folds better"].items()
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


def _paper_table() -> DataFrame:
    rows = {
        cell: {
            **{metric: mean for metric, (mean, _) in zip(PAPER_METRICS, values, strict=True)},
            **{f"{metric} std": std for metric, (_, std) in zip(PAPER_METRICS, values, strict=True)},
        }
        for cell, values in TABLE_1.items()
    }
    return DataFrame.from_dict(rows, orient="index")


def _cell(table: DataFrame, cell: str, metric: str) -> str:
    mean, std = table[metric][cell], table[f"{metric} std"][cell]
    return f"{mean:.3f} ± {std:.3f}" if cell == BASELINE else f"{mean:+.3f} ± {std:.3f}"
