"""`amf review`: predictions → one page to look at figures and correct their classes."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import Model
from amf.errors import DataError
from amf.files import file_to_write


def run(
    predictions: Annotated[Path, Argument(help="table or GeoJSON of `amf predict` or `amf slide`")],
    output: Annotated[Path, Option(parser=file_to_write, metavar="PAGE.html", help="the page to write")],
    root: Annotated[
        Path,
        Option(metavar="DIR", help="folder that the images' names are relative to"),
    ] = Path(),
    title: Annotated[str, Option(help="heading of the page")] = "Review of mitotic figures",
    maps: Annotated[
        bool, Option("--maps", help="show what each decision rests on, for the bundle of --model")
    ] = False,
    blind: Annotated[
        bool, Option("--blind", help="hide each answer until the vote, in a random order: votes are labels")
    ] = False,
    seed: Annotated[int, Option(min=0, help="of the random order of --blind")] = 0,
    disagreed: Annotated[
        list[Path] | None,
        Option(metavar="VOTES...", help="show only the figures on which these downloaded votes disagree"),
    ] = None,
    model: Model = None,
) -> None:
    """Write one page to look at predictions, correct them by vote and download the votes."""
    if output.suffix != ".html":
        raise DataError(f"{output} is to be the page, expected a name that ends in .html")
    from amf.bulk import answers as answered
    from amf.evaluation import review
    from amf.model.shipped import shipped_bundle

    folder = model or shipped_bundle()
    answers = answered.read_answers(predictions, folder)
    for note in answers.notes:
        print(note)
    if disagreed:
        answers = replace(answers, figures=review.where_experts_disagree(answers.figures, disagreed))
    pictures = review.read_pictures(answers.figures, root)
    overlays = None
    if maps:
        from tqdm import tqdm

        from amf.evaluation.maps import attribute, overlay
        from amf.model import bundle

        drawn = attribute(bundle.load(folder), review.patches_of(pictures))
        overlays = [overlay(map_) for map_ in tqdm(drawn, desc="maps", total=len(pictures), unit="figure")]
    page = review.Page(title, predictions.name, blind, seed, disagreed=bool(disagreed))
    review.write_page(output, page, answers, pictures, overlays)
    size = output.stat().st_size
    print(f"wrote {output}: {len(pictures)} figures, {size / 1e6:.1f} MB")
