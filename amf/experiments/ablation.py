"""The augmentation ablation (paper, Augmentation Strategy Evaluation and Table 1)."""

from pathlib import Path

from pandas import DataFrame, concat

from amf.data.figures import Figures
from amf.data.splits import group_kfold
from amf.experiments.folds import chosen, collect, fold_folder, run_fold
from amf.experiments.paper import METRICS, TABLE_1
from amf.experiments.plots import draw_ablation
from amf.experiments.record import write_record
from amf.experiments.scores import confidences_of, markdown, scores
from amf.files import write_text, written_whole
from amf.training.checkpoint import remove_checkpoints
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


def cell_recipe(recipe: Recipe, cell: str) -> Recipe:
    """The recipe with the augmentation and MixUp of one row of the table."""
    augmentation, mixup = CELLS[cell]
    return override(recipe, {"name": f"{recipe.name}: {cell}", "augmentation": augmentation, "mixup": mixup})


def run_ablation(
    recipe: Recipe,
    figures: Figures,
    out: Path,
    cells: list[str],
    fold: int | None = None,
    folds: int = FOLDS,
) -> None:
    """Run some rows of the table, all folds or the one of that number (from 0), each resumable.

    Every row is trained on the same folds, from the same initial weights. The checkpoints of a finished
    fold are removed: all rows' together are gigabytes, and nothing needs them any more.

    Raises
    ------
    DataError : there is no such fold, or a folder holds one of another recipe or table.
    """
    splits = chosen(group_kfold(figures.table, folds, recipe.optimise.seed), fold)
    for cell in cells:
        for split in splits:
            print(f"{cell}, {split.name}", flush=True)
            folder = fold_folder(out / cell, split)
            run_fold(cell_recipe(recipe, cell), figures, split, folder)
            remove_checkpoints(folder)


def collect_ablation(
    recipe: Recipe, figures: Figures, out: Path, cells: list[str], folds: int = FOLDS
) -> DataFrame:
    """Join the finished folds of some rows; write each fold's scores, the table and the plot to `out`.

    Returns
    -------
    The table: see `differences`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    splits = group_kfold(figures.table, folds, recipe.optimise.seed)
    parts = []
    for cell in cells:
        predictions = collect(cell_recipe(recipe, cell), figures, out / cell, splits)
        for name, fold in predictions.groupby("fold"):
            parts.append({"cell": cell, "fold": name, **scores(confidences_of(fold), fold["label"])})
    by_fold = DataFrame(parts)
    table = differences(by_fold)

    with written_whole(out / f"{TABLE}-folds.csv") as partial:
        by_fold.to_csv(partial, index=False)
    with written_whole(out / f"{TABLE}.csv") as partial:
        table.to_csv(partial, index_label="cell")
    write_text(out / f"{TABLE}.md", report(recipe, figures, table, folds))
    variants = table.drop(index=BASELINE)
    draw_ablation(variants, _paper_table().reindex(variants.index), out / f"{TABLE}.png")
    write_record(out, figures, recipe=recipe.model_dump(mode="json"), cells=cells, folds=folds)
    return table


def differences(by_fold: DataFrame) -> DataFrame:
    """Table 1 out of the scores of every cell and fold.

    As the paper's caption has it, the baseline's means are absolute, the others' are mean differences to it,
    and every std is the configuration's own over the folds (n − 1), not that of the differences.

    Parameters
    ----------
    by_fold : cell, fold and METRICS, one row a cell and fold.

    Returns
    -------
    One row a cell: METRICS, each with its "… std", and "folds better", in how many folds its BA is above
    the baseline's.
    """
    metrics = list(METRICS)
    cells = by_fold.groupby("cell", sort=False)[metrics]
    mean, std = cells.mean(), cells.std()
    variants = mean.index != BASELINE
    mean.loc[variants] -= mean.loc[BASELINE]
    wide = by_fold.pivot(index="fold", columns="cell", values="BA")
    better = wide.gt(wide[BASELINE], axis=0).sum()
    table = concat([mean, std.add_suffix(" std")], axis=1)
    return table.assign(**{"folds better": better.reindex(table.index)})


def report(recipe: Recipe, figures: Figures, table: DataFrame, folds: int) -> str:
    """Our table as Markdown, each column beside the paper's."""
    paper = _paper_table()
    columns: dict[str, list[str]] = {}
    for metric in METRICS:
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
            **{metric: mean for metric, (mean, _) in zip(METRICS, values, strict=True)},
            **{f"{metric} std": std for metric, (_, std) in zip(METRICS, values, strict=True)},
        }
        for cell, values in TABLE_1.items()
    }
    return DataFrame.from_dict(rows, orient="index")


def _cell(table: DataFrame, cell: str, metric: str) -> str:
    mean, std = table[metric][cell], table[f"{metric} std"][cell]
    return f"{mean:.3f} ± {std:.3f}" if cell == BASELINE else f"{mean:+.3f} ± {std:.3f}"
