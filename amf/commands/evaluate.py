"""`amf evaluate`: the organisers' numbers with intervals, as metrics.json, an HTML report and a table."""

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import Columns, pairs
from amf.files import folder_to_write, written_whole


def run(
    predictions: Annotated[
        Path,
        Argument(
            help="folder in the platform's layout (predictions.json, <pk>/output/…, ground_truth.json), or a "
            "table (.csv, .parquet, .json) with image, class, confidence, optionally page, label, domain, "
            "slide, species, tumor"
        ),
    ],
    truth: Annotated[
        list[Path] | None,
        Option(
            metavar="FILE...",
            help="ground_truth.json, a table with image, label, domain, slide, species, tumor, or votes of "
            "`amf review`",
        ),
    ] = None,
    allow_missing: Annotated[
        bool,
        Option(
            "--allow-missing",
            help="evaluate the figures that have a prediction and a truth, and name the others",
        ),
    ] = False,
    column: Columns = None,
    compare: Annotated[
        Path | None, Option(metavar="OTHER", help="predictions of the same figures to test against")
    ] = None,
    patches: Annotated[
        Path | None, Option(metavar="DIR", help="folder of the images, for thumbnails of errors")
    ] = None,
    output: Annotated[
        Path, Option(parser=folder_to_write, metavar="DIR", help="folder for metrics.json and report.html")
    ] = Path("runs/evaluation"),
    title: Annotated[str, Option(help="heading of the report")] = "Evaluation",
    replicates: Annotated[int, Option(min=1, help="bootstrap replicates")] = 2000,
    seed: Annotated[int, Option(help="of the bootstrap")] = 0,
) -> None:
    """Score predictions as the organisers do, with intervals; writes metrics.json and report.html."""
    from amf.bulk.answer_table import COLUMNS
    from amf.evaluation import predictions as tables
    from amf.evaluation import report, summary

    columns = pairs("--column", column, COLUMNS)
    evaluated = tables.read(predictions, truth, allow_missing, columns)
    other = tables.read(compare, truth, allow_missing, columns) if compare else None
    numbers = summary.summarise(evaluated, replicates, seed, other)
    page = report.render(evaluated, numbers, title, patches)
    with (  # both or neither: each file is on disk before the first takes its name
        written_whole(output / "metrics.json") as metrics_file,
        written_whole(output / "report.html") as report_file,
    ):
        metrics_file.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        report_file.write_text(page, encoding="utf-8")
    print(summary.as_text(numbers))
    print(f"wrote {output / 'metrics.json'} and {output / 'report.html'}")
