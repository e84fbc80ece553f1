"""`amf review`: predictions → one page to look at figures and correct their classes."""

import argparse
from pathlib import Path

from amf.commands.predict import add_model_arguments
from amf.errors import DataError
from amf.evaluation import review
from amf.files import file_to_write
from amf.model import bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "predictions", type=Path, help="what `amf predict` or `amf slide` wrote: a table or GeoJSON"
    )
    parser.add_argument(
        "--output", type=file_to_write, required=True, metavar="PAGE.html", help="the page to write"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        default=Path(),
        help="folder that the images' names are relative to; default: the current one",
    )
    parser.add_argument("--title", default="Review of mitotic figures", help="heading of the page")
    parser.add_argument(
        "--maps", action="store_true", help="show what each decision rests on, for the bundle of --model"
    )
    add_model_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the page."""
    if arguments.output.suffix != ".html":
        raise DataError(f"{arguments.output} is to be the page, expected a name that ends in .html")
    answers = review.read_answers(arguments.predictions)
    pictures = review.read_pictures(answers, arguments.root)
    overlays = None
    if arguments.maps:
        from amf.evaluation import maps  # captum takes a second to import, and pages mostly do without

        overlays = [maps.overlay(map_) for map_ in maps.attribute(bundle.load(arguments.model), pictures)]
    review.write_page(
        arguments.output, answers, pictures, arguments.predictions.name, arguments.title, overlays
    )
    size = arguments.output.stat().st_size
    print(f"wrote {arguments.output}: {len(answers)} figures, {size / 1e6:.1f} MB")
    return 0
