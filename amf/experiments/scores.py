"""What out-of-fold predictions are worth: each fold's scores, a ranking of runs, two runs compared."""

from collections.abc import Mapping
from pathlib import Path

from pandas import DataFrame
from scipy.special import expit

from amf.errors import DataError
from amf.evaluation import bootstrap
from amf.evaluation.predictions import Predictions
from amf.evaluation.summary import p_value, span
from amf.evaluation.threshold import fit_threshold
from amf.experiments.paper import THRESHOLD, paper_metrics
from amf.experiments.record import MEAN, STD, with_mean_and_std

DEFINITIONS = """BA is the mean of AMF recall and NMF recall. "at 0.5": atypical from sigmoid(logit) = 0.5 on,
as in the paper. "fitted": from the threshold of greatest BA on the pooled out-of-fold predictions of the
*other* folds (median over 1,000 bootstrap resamples), so a fold's own labels never choose its threshold.
Mean and std (n − 1) count every fold alike, whatever its size. Leaving one domain out, a fold is a domain.
"""


def score_domains(predictions: DataFrame) -> DataFrame:
    """Score each fold, which is a domain in LODO, at 0.5 and at the threshold that the other folds choose.

    The latter are the other folds' out-of-fold predictions: no network has seen the figures it is chosen
    on, and the fold's own labels take no part in choosing it.

    Parameters
    ----------
    predictions : fold, slide, label, logit.

    Returns
    -------
    One row a fold: n, AMF (counts), AUC, BA, AMF recall and NMF recall "at 0.5", threshold, and the same
    three "fitted".
    """
    predictions = predictions.assign(confidence=expit(predictions["logit"]))
    rows = {}
    for fold, own in predictions.groupby("fold"):
        threshold = fit_threshold(predictions[predictions["fold"] != fold]).value
        at_half = paper_metrics(own["confidence"], own["label"])
        fitted = paper_metrics(own["confidence"], own["label"], threshold)
        columns = ("BA", "AMF recall", "NMF recall")
        rows[fold] = {
            "n": len(own),
            "AMF": int(own["label"].sum()),
            "AUC": at_half["AUC"],
            **{f"{name} at {THRESHOLD}": at_half[name] for name in columns},
            "threshold": threshold,
            **{f"{name} fitted": fitted[name] for name in columns},
        }
    return DataFrame.from_dict(rows, orient="index")


def score_groups(predictions: DataFrame, summary: DataFrame) -> DataFrame:
    """Score species and tumours, each figure called at 0.5 and at its fold's fitted threshold.

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
            at_half = paper_metrics(own["confidence"], own["label"])
            fitted = paper_metrics(own["predicted"], own["label"])
            by_domain = summary[f"BA at {THRESHOLD}"][sorted(own["fold"].unique())]
            rows[f"{column.replace('tumor', 'tumour')}: {name}"] = {
                "domains": own["domain"].nunique(),
                "n": len(own),
                "AMF": int(own["label"].sum()),
                "AUC": at_half["AUC"],
                f"BA at {THRESHOLD}": at_half["BA"],
                **{f"{name} fitted": fitted[name] for name in ("BA", "AMF recall", "NMF recall")},
                f"lowest domain's BA at {THRESHOLD}": by_domain.min(),
                f"highest domain's BA at {THRESHOLD}": by_domain.max(),
            }
    return DataFrame.from_dict(rows, orient="index")


def called(predictions: DataFrame, summary: DataFrame) -> DataFrame:
    """The predictions as figures to evaluate, each called at its fold's fitted threshold."""
    confidence = expit(predictions["logit"])
    predicted = (confidence >= predictions["fold"].map(summary["threshold"])).astype("int64")
    return predictions.assign(page=0, confidence=confidence, predicted=predicted)


def threshold_costs(predictions: DataFrame, pooled: float) -> DataFrame:
    """What a threshold picked on one domain alone costs the figures of all the others.

    Parameters
    ----------
    predictions : domain, slide, label, confidence; pooled : the threshold of all domains together.

    Returns
    -------
    One row a domain: n, AMF, its threshold and interval, the BA of its own figures there, the BA of the
    others' figures there and at the pooled threshold, and the cost = the latter minus the former.
    """
    rows = {}
    for domain, own in predictions.groupby("domain"):
        others = predictions[predictions["domain"] != domain]
        picked = fit_threshold(own)
        there, together = (
            paper_metrics(others["confidence"], others["label"], cut)["BA"] for cut in (picked.value, pooled)
        )
        rows[domain] = {
            "n": len(own),
            "AMF": int(own["label"].sum()),
            "threshold": picked.value,
            "95 % interval": span([picked.low, picked.high]),
            "own BA there": paper_metrics(own["confidence"], own["label"], picked.value)["BA"],
            "others' BA there": there,
            "others' BA at the pooled threshold": together,
            "cost": together - there,
        }
    return DataFrame.from_dict(rows, orient="index")


def ranking(summaries: Mapping[str, DataFrame]) -> DataFrame:
    """LODO runs, best first: by the mean over domains of the BA at the other domains' threshold.

    Parameters
    ----------
    summaries : by run, see `score_domains`, with the rows mean and std.
    """
    columns = ("BA fitted", f"BA at {THRESHOLD}", "AUC")
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
    One row a fold with A, B and B − A of each score, the rows mean and std below; and sentences with the
    intervals of `bootstrap.compare`, which resamples slides. The thresholds are taken as given.

    Raises
    ------
    DataError : the figures differ.
    """
    a, b = (frame.sort_values("image").reset_index(drop=True) for frame in (a, b))
    if any(a[key].tolist() != b[key].tolist() for key in ("image", "fold", "slide", "label")):
        raise DataError(f"the two runs hold {len(a)} and {len(b)} figures that are not the same ones")
    summaries = [score_domains(frame) for frame in (a, b)]
    rows = summaries[0][["n", "AMF"]].copy()
    for name in (f"BA at {THRESHOLD}", "BA fitted", "AUC"):
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
