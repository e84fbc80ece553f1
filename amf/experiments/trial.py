"""A trial: one recipe and changed copies of it, cross-validated side by side on the same folds by slide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame
from scipy.special import expit

from amf.data.figures import Figures
from amf.data.splits import Split, group_kfold
from amf.experiments.folds import chosen, fold_folder, join_folds, run_fold, slug
from amf.experiments.paper import paper_metrics
from amf.experiments.record import markdown, write_record
from amf.files import write_text, written_whole
from amf.training.learner import remove_checkpoints
from amf.training.recipe import BASELINE, Recipe, override

FOLDS = 3
TABLE = "trial"


@dataclass(frozen=True)
class Trial:
    """What runs side by side.

    Attributes
    ----------
    variants : recipes by name, BASELINE among them.
    folds : how many; slides are kept together, and the folds are the same for all variants.
    seed_by_fold : whether weights and draws differ between folds, as the seed grows with their number;
        between variants they never do.
    """

    variants: Mapping[str, Recipe]
    folds: int = FOLDS
    seed_by_fold: bool = True

    def splits(self, figures: Figures) -> list[Split]:
        """The folds."""
        return group_kfold(figures.table, self.folds, self.variants[BASELINE].optimise.seed)

    def recipe(self, name: str, fold: int) -> Recipe:
        """A variant's recipe in one fold, from 0."""
        recipe = self.variants[name]
        return override(recipe, {"optimise.seed": recipe.optimise.seed + fold * self.seed_by_fold})

    def run(self, figures: Figures, out: Path, names: Sequence[str], fold: int | None = None) -> None:
        """Run some variants, all folds or the one of that number (from 0), each resumable.

        The checkpoints of a finished fold are removed: all variants' together are gigabytes.

        Raises
        ------
        DataError : there is no such fold, or a folder holds one of another recipe, table or split.
        """
        splits = self.splits(figures)
        for name in names:
            for split in chosen(splits, fold):
                print(f"{name}, {split.name}", flush=True)
                folder = fold_folder(out / slug(name), split)
                run_fold(self.recipe(name, splits.index(split)), figures, split, folder)
                remove_checkpoints(folder)

    def by_fold(self, figures: Figures, out: Path) -> DataFrame:
        """Join all variants: one row a variant and fold, with the paper's metrics at 0.5.

        Raises
        ------
        DataError : a fold is missing, or was of another recipe, table or split.
        """
        parts = []
        for name in self.variants:
            for number, split in enumerate(self.splits(figures)):
                predictions = join_folds(self.recipe(name, number), figures, out / slug(name), [split])
                metrics = paper_metrics(expit(predictions["logit"]), predictions["label"])
                parts.append({"variant": name, "fold": split.name, **metrics})
        return DataFrame(parts)


def collect_trial(trial: Trial, figures: Figures, out: Path) -> DataFrame:
    """Join all variants; write each fold's metrics and the table to `out`.

    Returns
    -------
    See `paired_differences`.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    by_fold = trial.by_fold(figures, out)
    table, base = paired_differences(by_fold), trial.variants[BASELINE]
    with written_whole(out / f"{TABLE}-folds.csv") as partial:
        by_fold.to_csv(partial, index=False)
    write_text(
        out / f"{TABLE}.md",
        f"Recipe {base.name}, table {figures.table_hash[:12]} ({len(figures.table)} figures), {trial.folds} "
        f"folds by slide with the seeds {base.optimise.seed} to {base.optimise.seed + trial.folds - 1}. "
        "Baseline absolute, mean ± std over the folds; others: mean ± std of the differences to the "
        "baseline, fold by fold (n − 1).\n\n" + markdown(table, "variant"),
    )
    variants = {name: recipe.model_dump(mode="json") for name, recipe in trial.variants.items()}
    write_record(out, figures, variants=variants)
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
