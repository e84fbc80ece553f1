"""Leave-one-domain-out cross-validation (paper, Data splitting strategy and Cross-Domain Performance)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_high

import numpy as np
import pandas as pd
from pandas import DataFrame
from scipy.special import expit

from amf.data.figures import Figures
from amf.data.splits import Split, leave_one_domain_out
from amf.errors import DataError, RecipeError
from amf.evaluation import bootstrap
from amf.evaluation.predictions import Predictions
from amf.evaluation.summary import p_value, span
from amf.evaluation.threshold import fit_threshold
from amf.experiments import paper
from amf.experiments.folds import best_epoch, fold_folder, join_folds, run_fold, slug
from amf.experiments.plots import draw_domain_bars
from amf.experiments.record import MEAN, RECORD, STD, markdown, read_record, with_mean_and_std, write_record
from amf.files import write_text, written_whole
from amf.model.digest import file_digest
from amf.training.recipe import Recipe, override, parse_recipe, write_recipe

OUT_OF_FOLD, SUMMARY = "out-of-fold.csv", "summary"
DEFINITIONS = """BA is the mean of AMF recall and NMF recall. "at 0.5": atypical from sigmoid(logit) = 0.5 on,
as in the paper. "fitted": from the threshold of greatest BA on the pooled out-of-fold predictions of the
*other* domains (median over 1,000 bootstrap resamples), so a domain's own labels never choose its threshold.
Mean and std (n − 1) count every domain alike, whatever its size.
"""


@dataclass(frozen=True)
class Member:
    """One network of an ensemble in a LODO run: its recipe, and by domain the best epoch, from 1."""

    recipe: Recipe
    best_epochs: dict[str, int]

    @property
    def name(self) -> str:
        """Recipe and seed."""
        return member_name(self.recipe)


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
        return "; ".join(member.name for member in self.members)

    def horizon(self, recipe: Recipe) -> int:
        """The median best epoch over the folds of a recipe's members, whatever their seeds.

        Of an even number of folds it is the higher middle one (paper, Data splitting strategy).
        """
        of_recipe = [m for m in self.members if with_seed(m.recipe, 0) == with_seed(recipe, 0)]
        return median_high(epoch for member in of_recipe for epoch in member.best_epochs.values())


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


def member_folder(out: Path, members: Sequence[Recipe], member: Recipe) -> Path:
    """Where a member's folds lie: in `out` itself where there is no other member."""
    return out if len(members) == 1 else out / slug(member_name(member))


def run_fold_of(member: Recipe, figures: Figures, folder: Path, split: Split) -> None:
    """Train and score one member on one fold, resumable.

    Raises
    ------
    DataError : the folder holds a fold of another recipe, table or split.
    """
    print(f"{member_name(member)}: held out: {split.name} ({len(split.held_out)} figures)", flush=True)
    run_fold(member, figures, split, fold_folder(folder, split))


def collect_lodo(members: Sequence[Recipe], figures: Figures, out: Path) -> Lodo:
    """Join the finished folds; write predictions, summaries (CSV, Markdown, PNG) and record to `out`.

    Several members are joined one by one in their own folders, and then averaged.

    Raises
    ------
    DataError : a fold is missing, or was of another recipe, table or split.
    """
    if len(members) > 1:
        done = average_runs([collect_lodo([m], figures, member_folder(out, members, m)) for m in members])
    else:
        splits = leave_one_domain_out(figures.table)
        predictions = join_folds(members[0], figures, out, splits)
        epochs = {split.name: best_epoch(members[0], fold_folder(out, split)) for split in splits}
        done = Lodo((Member(members[0], epochs),), predictions, figures.table_hash)
        write_recipe(members[0], out / "recipe.yaml")

    summary = with_mean_and_std(score_domains(done.predictions))
    with written_whole(out / OUT_OF_FOLD) as partial:
        done.predictions.to_csv(partial, index=False)
    with written_whole(out / f"{SUMMARY}.csv") as partial:
        summary.to_csv(partial, index_label="domain")
    groups = score_groups(done.predictions, summary)
    with written_whole(out / f"{SUMMARY}-groups.csv") as partial:
        groups.to_csv(partial, index_label="group")
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
    runs = []
    for folder in folders:
        record = read_record(folder, "members", "out_of_fold")
        path = folder / OUT_OF_FOLD
        try:
            if file_digest(path) != record["out_of_fold"]:
                raise DataError(f"{path} is not what {folder / RECORD} is of: run `amf lodo --collect` again")
            predictions = pd.read_csv(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read, `amf lodo --collect` writes it: {error}") from error
        members = tuple(
            Member(parse_recipe(member["recipe"], str(folder / RECORD)), member["best_epochs"])
            for member in record["members"]
        )
        runs.append(Lodo(members, predictions, record["table_hash"]))
        if runs[-1].table_hash != runs[0].table_hash:
            raise DataError(
                f"{folder} is a LODO run of the table {runs[-1].table_hash[:12]}, "
                f"{folders[0]} of {runs[0].table_hash[:12]}: expected one table"
            )
    joined = average_runs(runs)
    ensemble([member.recipe for member in joined.members], None)
    return joined


def average_runs(runs: Sequence[Lodo]) -> Lodo:
    """The runs as one: the mean of all their members' logits on the same figures."""
    first, counts = runs[0], [len(run.members) for run in runs]
    logits = np.average([run.predictions["logit"] for run in runs], axis=0, weights=counts)
    members = tuple(member for run in runs for member in run.members)
    return Lodo(members, first.predictions.assign(logit=logits), first.table_hash)


def score_domains(predictions: DataFrame) -> DataFrame:
    """Score each domain at 0.5 and at the threshold that the other domains choose.

    The latter are the other domains' out-of-fold predictions: no network has seen the figures it is chosen
    on, and the domain's own labels take no part in choosing it.

    Returns
    -------
    One row a domain: n, AMF (counts), AUC, BA, AMF recall and NMF recall "at 0.5", threshold, and the same
    three "fitted".
    """
    predictions = predictions.assign(confidence=expit(predictions["logit"]))
    rows = {}
    for domain, own in predictions.groupby("domain"):
        threshold = fit_threshold(predictions[predictions["domain"] != domain]).value
        at_half = paper.paper_metrics(own["confidence"], own["label"])
        fitted = paper.paper_metrics(own["confidence"], own["label"], threshold)
        columns = ("BA", "AMF recall", "NMF recall")
        rows[domain] = {
            "n": len(own),
            "AMF": int(own["label"].sum()),
            "AUC": at_half["AUC"],
            **{f"{name} at {paper.THRESHOLD}": at_half[name] for name in columns},
            "threshold": threshold,
            **{f"{name} fitted": fitted[name] for name in columns},
        }
    return DataFrame.from_dict(rows, orient="index")


def score_groups(predictions: DataFrame, summary: DataFrame) -> DataFrame:
    """Score species and tumours, each figure called at 0.5 and at its domain's fitted threshold.

    The paper gives the range over the domains of a species; figures of all its domains are pooled here, too.

    Parameters
    ----------
    summary : see `score_domains`.

    Returns
    -------
    One row a species and a tumour: domains, n, AMF, AUC, BA "at 0.5" and "fitted", both recalls "fitted", and
    the lowest and highest BA at 0.5 over its domains.
    """
    figures, rows = called(predictions, summary), {}
    for column in ("species", "tumor"):
        for name, own in figures.groupby(figures[column].fillna("not published")):
            at_half = paper.paper_metrics(own["confidence"], own["label"])
            fitted = paper.paper_metrics(own["predicted"], own["label"])
            by_domain = summary[f"BA at {paper.THRESHOLD}"][sorted(own["domain"].unique())]
            rows[f"{column.replace('tumor', 'tumour')}: {name}"] = {
                "domains": len(by_domain),
                "n": len(own),
                "AMF": int(own["label"].sum()),
                "AUC": at_half["AUC"],
                f"BA at {paper.THRESHOLD}": at_half["BA"],
                **{f"{name} fitted": fitted[name] for name in ("BA", "AMF recall", "NMF recall")},
                f"lowest domain's BA at {paper.THRESHOLD}": by_domain.min(),
                f"highest domain's BA at {paper.THRESHOLD}": by_domain.max(),
            }
    return DataFrame.from_dict(rows, orient="index")


def lodo_report(lodo: Lodo, summary: DataFrame, groups: DataFrame) -> str:
    """Both summaries (that of the domains with mean and std) as Markdown, the paper's mean below ours."""
    theirs = ", ".join(f"{name} {mean:.3f} ± {std:.3f}" for name, (mean, std) in paper.LODO.items())
    ours = ", ".join(f"{name} {_mean_and_std(summary, f'{name} at 0.5')}" for name in paper.LODO)
    several = f", the logits of {len(lodo.members)} members averaged" if len(lodo.members) > 1 else ""
    return "\n".join(
        [
            f"{lodo.names}{several}; table {lodo.table_hash[:12]} ({len(lodo.predictions)} figures).",
            "",
            markdown(summary, "held-out domain"),
            markdown(groups, "species, tumour"),
            DEFINITIONS,
            f"- ours, at 0.5: {ours}",
            f"- ours, fitted: BA {_mean_and_std(summary, 'BA fitted')}",
            f"- the paper (10 domains, at 0.5): {theirs}",
            *(
                f"- horizon of {member.name}, the median best epoch of its recipe: "
                f"{lodo.horizon(member.recipe)} of {member.recipe.optimise.epochs} "
                f"({'; '.join(f'{domain}: {epoch}' for domain, epoch in member.best_epochs.items())})"
                for member in lodo.members
            ),
            "",
        ]
    )


def _mean_and_std(table: DataFrame, column: str) -> str:
    return f"{table[column][MEAN]:.3f} ± {table[column][STD]:.3f}"


def rank(summaries: Mapping[str, DataFrame]) -> DataFrame:
    """The combinations of a grid, best first: mean over domains of the BA at the other domains' threshold.

    Parameters
    ----------
    summaries : by combination, each with the rows mean and std.
    """
    columns = ("BA fitted", f"BA at {paper.THRESHOLD}", "AUC")
    rows = {
        name: {f"{column}: {row}": float(summary[column][row]) for column in columns for row in (MEAN, STD)}
        for name, summary in summaries.items()
    }
    table = DataFrame.from_dict(rows, orient="index")
    return table.sort_values(f"BA fitted: {MEAN}", ascending=False, kind="stable")


def compare_lodo(a: DataFrame, b: DataFrame, replicates: int = 2000, seed: int = 0) -> tuple[DataFrame, str]:
    """Two recipes on the same held-out figures: the difference B − A, paired, at their fitted thresholds.

    Parameters
    ----------
    a, b : out-of-fold predictions of the same figures.

    Returns
    -------
    One row a domain with A, B and B − A of each score, the rows mean and std below; and sentences with the
    intervals of `bootstrap.compare`, which resamples slides. The thresholds are taken as given.

    Raises
    ------
    DataError : the figures differ.
    """
    a, b = (frame.sort_values("image").reset_index(drop=True) for frame in (a, b))
    if any(a[key].tolist() != b[key].tolist() for key in ("image", "domain", "slide", "label")):
        raise DataError(f"the two runs hold {len(a)} and {len(b)} figures that are not the same ones")
    summaries = [score_domains(frame) for frame in (a, b)]
    rows = summaries[0][["n", "AMF"]].copy()
    for name in (f"BA at {paper.THRESHOLD}", "BA fitted", "AUC"):
        rows[f"{name}: A"], rows[f"{name}: B"] = (summary[name] for summary in summaries)
        rows[f"{name}: B − A"] = rows[f"{name}: B"] - rows[f"{name}: A"]

    first, second = (
        Predictions(Path(name), called(frame, summary))
        for name, frame, summary in zip("AB", (a, b), summaries, strict=True)
    )
    found = bootstrap.compare(second, first, replicates, seed)
    difference = rows["BA fitted: B − A"]
    lines = [
        f"B − A by domain, BA at the fitted threshold: {difference.mean():+.3f} ± {difference.std():.3f}, "
        f"B better in {int((difference > 0).sum())} of {len(difference)}."
    ]
    for name, words in (
        ("mean_domain_balanced_accuracy", "mean over domains of the BA at the fitted thresholds"),
        ("balanced_accuracy", "BA of all figures pooled, at the fitted thresholds"),
        ("roc_auc", "AUC of all figures pooled"),
    ):
        row = found[name]
        lines.append(
            f"B − A, {words}: {row['difference']:+.3f} (95 % interval {span(row['interval'], signed=True)}, "
            f"p {p_value(row['p'])}; {bootstrap.resampled_unit(a)} resampled {replicates} times)."
        )
    return with_mean_and_std(rows), "\n\n".join(lines)


def called(predictions: DataFrame, summary: DataFrame) -> DataFrame:
    """The predictions as figures to evaluate, each called at its domain's fitted threshold."""
    confidence = expit(predictions["logit"])
    predicted = (confidence >= predictions["domain"].map(summary["threshold"])).astype("int64")
    return predictions.assign(page=0, confidence=confidence, predicted=predicted)
