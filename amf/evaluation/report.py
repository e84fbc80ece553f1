"""The evaluation as one HTML file that opens from disk: no script, no font, no picture from elsewhere."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import jinja2
from markupsafe import Markup
from pandas import DataFrame
from PIL import Image

import amf
from amf.bulk.read import read_pages
from amf.data.patches import file_of, read_patch_named
from amf.errors import DataError, JobError
from amf.evaluation import charts, metrics, summary
from amf.evaluation.predictions import Predictions

GALLERY_SIZE = 12


@dataclass(frozen=True)
class Card:
    """One figure of a gallery; `thumbnail` is a data URI, None where its image was not found."""

    name: str
    confidence: float
    context: str
    thumbnail: str | None


def render(predictions: Predictions, numbers: dict[str, Any], title: str, patches: Path | None) -> str:
    """The report's HTML.

    Parameters
    ----------
    numbers : what amf.evaluation.summary.summarise gave for `predictions`.
    patches : folder with the images named by the predictions, for the galleries; None for no thumbnails.

    Raises
    ------
    DataError : `patches` is not a folder.
    """
    if patches is not None and not patches.is_dir():
        raise DataError(f"{patches} is not a folder, expected the one with the patches the predictions name")
    figures = predictions.figures
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("amf.evaluation", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimals": summary.decimals, "span": summary.span, "p_value": summary.p_value}
    figure_charts = [
        ("ROC curve", charts.roc_chart(figures)),
        ("Precision and recall", charts.precision_recall_chart(figures)),
        ("Reliability", charts.reliability_chart(figures)),
        ("Threshold", charts.threshold_chart(figures, numbers["threshold"])),
    ]
    return environment.get_template("report.html.jinja").render(
        title=title,
        version=amf.__version__,
        source=predictions.source.name,
        numbers=numbers,
        metrics=metrics.METRICS,
        parts=[_part(numbers, name) for name in numbers["figures"]],
        domains=sum(name.startswith("domain_") for name in numbers["figures"]),
        charts=[(name, Markup(chart)) for name, chart in figure_charts],  # our own SVG, not to be escaped
        domain_chart=Markup(charts.domains_chart(numbers)) if "domain" in figures else None,
        galleries=[
            ("Missed: AMF called normal, lowest confidence first", gallery(figures, 1, patches)),
            ("False alarms: NMF called atypical, highest confidence first", gallery(figures, 0, patches)),
        ],
        with_patches=patches is not None,
    )  # fmt: skip


def _part(numbers: dict[str, Any], name: str) -> tuple[str, Any, Any, Any]:
    """What the tables show of all figures or of a part of them: name, counts, scores, intervals."""
    scores = summary.scores_of(numbers, name)
    return summary.part_label(name), numbers["figures"][name], scores, numbers["intervals"][name]


def gallery(figures: DataFrame, label: int, patches: Path | None) -> list[Card]:
    """The errors on figures of one class (1 = AMF), the most confident first, at most GALLERY_SIZE."""
    wrong = figures[(figures["label"] == label) & (figures["predicted"] != label)]
    wrong = wrong.sort_values("confidence", ascending=label == 1, kind="stable").head(GALLERY_SIZE)
    cards = []
    for row in wrong.to_dict("records"):
        page = None if row["page"] is None or row["page"] != row["page"] else int(row["page"])
        name = PurePath(row["image"]).name + ("" if page is None else f", page {page}")
        context = " · ".join(str(row[key]) for key in ("domain", "slide") if key in row)
        thumbnail = None if patches is None else _thumbnail(patches, row["image"], page or 0)
        cards.append(Card(name, float(row["confidence"]), context, thumbnail))
    return cards


def _thumbnail(patches: Path, image: str, page: int) -> str | None:
    """The patch as a JPEG data URI, looked for by its path below `patches` and by its name there."""
    for path in (patches / image, patches / PurePath(image).name):
        try:
            # A figure of a slide is no file of its own.
            pixels = read_pages(path)[page] if file_of(image) == image else read_patch_named(image, patches)
            picture = Image.fromarray(pixels)
        except (DataError, JobError, IndexError):
            continue
        out = io.BytesIO()
        picture.save(out, format="JPEG", quality=85)
        return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
    return None
