"""A trial: one recipe and changed copies of it, cross-validated side by side inside the training data."""

from pathlib import Path

from pandas import DataFrame

from amf.data.figures import Figures
from amf.data.splits import group_kfold
from amf.experiments.folds import chosen, collect, fold_folder, run_fold, slug
from amf.experiments.record import write_record
from amf.experiments.scores import confidences_of, markdown, scores
from amf.files import written_whole
from amf.training.checkpoint import remove_checkpoints
from amf.training.recipe import BASELINE, Recipe, override

FOLDS = 3
TABLE = "trial"


def fold_recipe(recipe: Recipe, fold: int) -> Recipe:
    """The recipe with the fold's own seed: weights and draws differ between folds, not between variants."""
    return override(recipe, {"optimise.seed": recipe.optimise.seed + fold})


def run_trial(
    variants: dict[str, Recipe], figures: Figures, out: Path, names: list[str], fold: int | None = None
) -> None:
    """Run some variants, all folds or the one of that number (from 0), each resumable.

    Folds keep slides together and are the same for all variants.

    Raises
    ------
    DataError : there is no such fold, or a folder holds one of another recipe or table.
    """
    splits = group_kfold(figures.table, FOLDS, variants[BASELINE].optimise.seed)
    for name in names:
        for split in chosen(splits, fold):
            print(f"{name}, {split.name}", flush=True)
            folder = fold_folder(out / slug(name), split)
            run_fold(fold_recipe(variants[name], splits.index(split)), figures, split, folder)
            remove_checkpoints(folder)


def collect_trial(variants: dict[str, Recipe], figures: Figures, out: Path) -> DataFrame:
    """Join all variants; write each fold's scores and the table to `out`.

    Returns
    -------
    See `paired_differences`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    splits = group_kfold(figures.table, FOLDS, variants[BASELINE].optimise.seed)
    parts = []
    for name, recipe in variants.items():
        for number, split in enumerate(splits):
            predictions = collect(fold_recipe(recipe, number), figures, out / slug(name), [split])
            values = scores(confidences_of(predictions), predictions["label"])
            parts.append({"variant": name, "fold": split.name, **values})
    by_fold = DataFrame(parts)
    table = paired_differences(by_fold)
    base = variants[BASELINE]
    with written_whole(out / f"{TABLE}-folds.csv") as partial:
        by_fold.to_csv(partial, index=False)
    with written_whole(out / f"{TABLE}.md") as partial:
        partial.write_text(
            f"Recipe {base.name}, table {figures.table_hash[:12]} ({len(figures.table)} figures), {FOLDS} "
            f"folds by slide with the seeds {base.optimise.seed} to {base.optimise.seed + FOLDS - 1}. "
            "Baseline absolute, mean ± std over the folds; others: mean ± std of the differences to the "
            "baseline, fold by fold (n − 1).\n\n" + markdown(table, "variant"),
            encoding="utf-8",
        )
    write_record(out, figures, variants={name: r.model_dump(mode="json") for name, r in variants.items()})
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
    columns: dict[str, list[str]] = {"AUC": [], "BA at 0.5": [], "AUC better": []}
    names = list(by_fold["variant"].unique())
    for column, metric in (("AUC", "AUC"), ("BA at 0.5", "BA")):
        wide = by_fold.pivot(index="fold", columns="variant", values=metric)
        for name in names:
            if name == BASELINE:
                columns[column].append(f"{wide[name].mean():.4f} ± {wide[name].std():.4f}")
            else:
                difference = wide[name] - wide[BASELINE]
                columns[column].append(f"{difference.mean():+.4f} ± {difference.std():.4f}")
            if metric == "AUC":
                better = int((wide[name] > wide[BASELINE]).sum())
                columns["AUC better"].append("" if name == BASELINE else f"{better} of {len(wide)}")
    return DataFrame(columns, index=names)
