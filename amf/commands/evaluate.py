"""`amf evaluate`: the organisers' numbers with intervals, as metrics.json, an HTML report and a table."""

import argparse
import json
from pathlib import Path

from amf.evaluation import predictions, report, summary
from amf.files import folder_to_write, written_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "predictions",
        type=Path,
        help="folder in the platform's layout (predictions.json, <pk>/output/…, ground_truth.json), or a "
        "table (.csv, .parquet, .json) with image, class, confidence, optionally page, label, domain, slide, "
        "species, tumor",
    )
    parser.add_argument(
        "--truth",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="ground_truth.json, a table with image, label, domain, slide, species, tumor, "
        "or votes of `amf review`",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="evaluate the figures that have a prediction and a truth, and name the others",
    )
    parser.add_argument(
        "--compare", type=Path, metavar="OTHER", help="predictions of the same figures to test against"
    )
    parser.add_argument(
        "--patches", type=Path, metavar="DIR", help="folder of the images, for thumbnails of errors"
    )
    parser.add_argument(
        "--output",
        type=folder_to_write,
        metavar="DIR",
        default="runs/evaluation",
        help="default: %(default)s",
    )
    parser.add_argument("--title", default="Evaluation", help="heading of the report")
    parser.add_argument(
        "--replicates", type=_positive, default=2000, help="bootstrap replicates, default: %(default)s"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap, default: %(default)s")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate; metrics.json and report.html go to the output folder, a table to the console."""
    truth, allow_missing = arguments.truth, arguments.allow_missing
    evaluated = predictions.read(arguments.predictions, truth, allow_missing)
    other = predictions.read(arguments.compare, truth, allow_missing) if arguments.compare else None
    numbers = summary.summarise(evaluated, arguments.replicates, arguments.seed, other)
    page = report.render(evaluated, numbers, arguments.title, arguments.patches)
    with (  # both or neither: each file is on disk before the first takes its name
        written_whole(arguments.output / "metrics.json") as metrics_file,
        written_whole(arguments.output / "report.html") as report_file,
    ):
        metrics_file.write_text(json.dumps(numbers, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        report_file.write_text(page, encoding="utf-8")
    print(summary.as_text(numbers))
    print(f"wrote {arguments.output / 'metrics.json'} and {arguments.output / 'report.html'}")
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value
