"""Leave-one-domain-out cross-validation (paper, Data splitting strategy and Cross-Domain Performance)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_high

import numpy as np
import pandas as pd
from pandas import DataFrame

from amf.data.figures import Figures
from amf.data.splits import Split, group_kfold, leave_one_domain_out
from amf.errors import DataError, RecipeError
from amf.experiments import paper
from amf.experiments.folds import CrossValidation, best_epoch, join_folds, slug
from amf.experiments.plots import draw_domain_bars
from amf.experiments.record import (
    MEAN,
    RECORD,
    STD,
    markdown,
    read_record,
    with_mean_and_std,
    write_csv,
    write_record,
)
from amf.experiments.scores import DEFINITIONS, called, ranking, score_domains, score_groups
from amf.files import write_text
from amf.model.digest import file_digest
from amf.training.recipe import Recipe, override, parse_recipe, write_recipe

OUT_OF_FOLD, SUMMARY, RANKING, CHOSEN = "out-of-fold.csv", "summary", "ranking", "chosen.yaml"
SLIDE_FOLDS = 5
BY_SLIDE = (
    "these folds are slides of one domain, so they do not tell how the model does on another scanner, "
    "laboratory or tumour"
)


@dataclass(frozen=True)
class Member:
    """One network of an ensemble in a LODO run: its recipe, and by fold the best epoch, from 1."""

    recipe: Recipe
    best_epochs: dict[str, int]


@dataclass(frozen=True)
class Lodo:
    """A finished LODO run of one network, or of several whose logits are averaged as a bundle averages them.

    Attributes
    ----------
    members : what was averaged.
    predictions : image, slide, domain, label, soft_label, logit, tumor, species, fold; each figure once.
    table_hash : of the patch table.
    """

    members: tuple[Member, ...]
    predictions: DataFrame
    table_hash: str

    @property
    def names(self) -> str:
        """All members, in words."""
        return "; ".join(member_name(member.recipe) for member in self.members)

    @property
    def by_slide(self) -> bool:
        """Whether the folds are slides of one domain, see `held_out_splits`."""
        return bool((self.predictions["fold"] != self.predictions["domain"]).any())

    def horizon(self, recipe: Recipe) -> int:
        """The median best epoch over the folds of a recipe's members, whatever their seeds.

        Of an even number of folds it is the higher middle one (paper, Data splitting strategy).
        """
        of_recipe = [m for m in self.members if with_seed(m.recipe, 0) == with_seed(recipe, 0)]
        return median_high(epoch for member in of_recipe for epoch in member.best_epochs.values())

    def check_members(self, members: Sequence[Recipe], table_hash: str, what: str) -> None:
        """Raise DataError where `what`, a bundle, has other members or another table.

        Only its own out-of-fold logits calibrate it.
        """
        own = sorted((member.recipe for member in self.members), key=member_name)
        if self.table_hash != table_hash or own != sorted(members, key=member_name):
            raise DataError(
                f"the LODO run is of {self.names} on the table {self.table_hash[:12]}, {what} of "
                f"{'; '.join(map(member_name, members))} on {table_hash[:12]}: expected the very same "
                "recipes, seeds and table"
            )


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """The recipe with another seed."""
    return override(recipe, {"optimise.seed": seed})


def member_name(recipe: Recipe) -> str:
    """Recipe and seed in words."""
    return f"{recipe.name}, seed {recipe.optimise.seed}"


def ensemble(recipes: Sequence[Recipe], seeds: Sequence[int] | None) -> list[Recipe]:
    """A member for every recipe and seed; without seeds each recipe has its own.

    Raises
    ------
    RecipeError : two members would be the same, or have one name.
    """
    members = [with_seed(recipe, seed) for recipe in recipes for seed in seeds] if seeds else list(recipes)
    names = [slug(member_name(member)) for member in members]
    if len(set(names)) < len(names):
        raise RecipeError(f"the members are {'; '.join(names)}, expected each recipe's name and seed once")
    return members


def held_out_splits(table: DataFrame) -> list[Split]:
    """A fold for each domain; of a table with one domain folds by slide, so that it can be calibrated, too.

    Raises
    ------
    DataError : a slide belongs to two domains, or one domain has too few slides with figures of a class.
    """
    if table["domain"].nunique() > 1:
        return leave_one_domain_out(table)
    slides = min(table["slide"][table["label"] == label].nunique() for label in (0, 1))
    if slides < 2:
        raise DataError(
            f"the table has one domain, and AMF or NMF on {slides} of its slides, expected at least 2 to "
            "leave one out"
        )
    return group_kfold(table, min(SLIDE_FOLDS, slides), seed=0)


def lodo_runs(members: Sequence[Recipe], figures: Figures, out: Path) -> list[CrossValidation]:
    """The members on every fold of `held_out_splits`, several of them in a folder each."""
    splits = held_out_splits(figures.table)
    folders = [out] if len(members) == 1 else [out / slug(member_name(member)) for member in members]
    return [
        CrossValidation(member_name(member), member, splits, folder)
        for member, folder in zip(members, folders, strict=True)
    ]


def collect_lodo(members: Sequence[Recipe], figures: Figures, out: Path) -> Lodo:
    """Join the finished folds; write predictions, summaries (CSV, Markdown, PNG) and record to `out`.

    Several members are joined one by one in their own folders, and then averaged. Raises as `join_folds`.
    """
    runs = lodo_runs(members, figures, out)
    if len(runs) > 1:
        done = average_runs([collect_lodo([run.recipe], figures, run.folder) for run in runs])
    else:
        run = runs[0]
        folders = {split.name: run.folder_of(fold) for fold, split in enumerate(run.splits)}
        predictions = join_folds(run, figures)
        epochs = {name: best_epoch(run.recipe, folder) for name, folder in folders.items()}
        done = Lodo((Member(run.recipe, epochs),), predictions, figures.table_hash)
        write_recipe(run.recipe, out / "recipe.yaml")

    figures_called = called(done.predictions)
    summary, groups = with_mean_and_std(score_domains(figures_called)), score_groups(figures_called)
    write_csv(done.predictions, out / OUT_OF_FOLD)
    write_csv(summary, out / f"{SUMMARY}.csv", index="domain")
    write_csv(groups, out / f"{SUMMARY}-groups.csv", index="group")
    write_text(out / f"{SUMMARY}.md", lodo_report(done, summary, groups))
    draw_domain_bars(summary, out / f"{SUMMARY}.png")
    write_record(
        out,
        figures,
        out_of_fold=file_digest(out / OUT_OF_FOLD),
        members=[
            {
                "recipe": member.recipe.model_dump(mode="json"),
                "best_epochs": member.best_epochs,
                "horizon": done.horizon(member.recipe),
            }
            for member in done.members
        ],
    )
    return done


def read_lodo(folders: Sequence[Path]) -> Lodo:
    """One LODO run as `collect_lodo` left it, or several with the logits of all their members averaged.

    Raises
    ------
    DataError : a run is not collected or was changed since, or the runs are not of one table.
    RecipeError : a member is in two of the runs.
    """
    joined = average_runs(read_runs(folders))
    ensemble([member.recipe for member in joined.members], None)
    return joined


def read_runs(folders: Sequence[Path]) -> list[Lodo]:
    """Each of several LODO runs. Raises DataError as `read_lodo` does, and for runs of different tables."""
    runs = []
    for folder in folders:
        record = read_record(folder, "members", "out_of_fold")
        path = folder / OUT_OF_FOLD
        if file_digest(path) != record["out_of_fold"]:
            raise DataError(f"{path} is not what {folder / RECORD} is of: run `amf lodo --collect` again")
        members = tuple(
            Member(parse_recipe(member["recipe"], str(folder / RECORD)), member["best_epochs"])
            for member in record["members"]
        )
        runs.append(Lodo(members, pd.read_csv(path), record["table_hash"]))
        if runs[-1].table_hash != runs[0].table_hash:
            raise DataError(
                f"{folder} is a LODO run of the table {runs[-1].table_hash[:12]}, "
                f"{folders[0]} of {runs[0].table_hash[:12]}: expected one table"
            )
    return runs


def average_runs(runs: Sequence[Lodo]) -> Lodo:
    """The runs as one: the mean of all their members' logits on the same figures."""
    first, counts = runs[0], [len(run.members) for run in runs]
    logits = np.average([run.predictions["logit"] for run in runs], axis=0, weights=counts)
    members = tuple(member for run in runs for member in run.members)
    return Lodo(members, first.predictions.assign(logit=logits), first.table_hash)


def choose_best(folders: Sequence[Path], target: Path) -> DataFrame:
    """Rank LODO runs of one recipe each; write the best one's recipe to `target` and the ranking beside it.

    Of several seeds the recipe has the first.

    Returns
    -------
    See `ranking`; a run is called by its folder's name, or by its path where two names are the same.

    Raises
    ------
    DataError : see `read_lodo`; also a run of several recipes.
    """
    names = [folder.name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    runs = dict(zip(names, read_runs(folders), strict=True))
    for name, run in runs.items():
        if any(with_seed(m.recipe, 0) != with_seed(run.members[0].recipe, 0) for m in run.members):
            raise DataError(
                f"{name} is a LODO run of {run.names}, expected one recipe, with one seed or several"
            )
    table = ranking({name: score_domains(called(run.predictions)) for name, run in runs.items()})
    chosen = runs[str(table.index[0])].members[0].recipe
    write_csv(table, target.with_name(f"{RANKING}.csv"), index="run")
    text = f"Chosen: {chosen.name}\n\n{markdown(table, 'run')}\n{DEFINITIONS}"
    write_text(target.with_name(f"{RANKING}.md"), text)
    write_recipe(chosen, target)
    return table


def lodo_report(lodo: Lodo, summary: DataFrame, groups: DataFrame) -> str:
    """Both summaries (that of the domains with mean and std) as Markdown, the paper's mean below ours."""
    theirs = ", ".join(f"{name} {mean:.3f} ± {std:.3f}" for name, (mean, std) in paper.LODO.items())
    ours = ", ".join(f"{name} {_mean_and_std(summary, f'{name} at 0.5')}" for name in paper.LODO)
    several = f", the logits of {len(lodo.members)} members averaged" if len(lodo.members) > 1 else ""
    return "\n".join(
        [
            f"{lodo.names}{several}; table {lodo.table_hash[:12]} ({len(lodo.predictions)} figures).",
            "",
            *([f"**One domain: {BY_SLIDE}.**", ""] if lodo.by_slide else []),
            markdown(summary, "held out"),
            markdown(groups, "species, tumour"),
            DEFINITIONS,
            f"- ours, at 0.5: {ours}",
            f"- ours, fitted: BA {_mean_and_std(summary, 'BA fitted')}",
            *([] if lodo.by_slide else [f"- the paper (10 domains, at 0.5): {theirs}"]),
            *(
                f"- horizon of {member_name(member.recipe)}, the median best epoch of its recipe: "
                f"{lodo.horizon(member.recipe)} of {member.recipe.optimise.epochs} "
                f"({'; '.join(f'{fold}: {epoch}' for fold, epoch in member.best_epochs.items())})"
                for member in lodo.members
            ),
            "",
        ]
    )


def _mean_and_std(table: DataFrame, column: str) -> str:
    return f"{table[column][MEAN]:.3f} ± {table[column][STD]:.3f}"
