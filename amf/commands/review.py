"""`amf review`: predictions → one page to look at figures and correct their classes."""

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
    model: Model = None,
) -> None:
    """Write one page to look at predictions, correct them by vote and download the votes."""
    if output.suffix != ".html":
        raise DataError(f"{output} is to be the page, expected a name that ends in .html")
    from amf.evaluation import review

    answers = review.read_answers(predictions)
    pictures = review.read_pictures(answers, root)
    overlays = None
    if maps:
        from tqdm import tqdm

        from amf.evaluation.maps import attribute, overlay
        from amf.model import bundle
        from amf.model.shipped import shipped_bundle

        drawn = attribute(bundle.load(model or shipped_bundle()), pictures)
        overlays = [overlay(map_) for map_ in tqdm(drawn, desc="maps", total=len(pictures), unit="figure")]
    review.write_page(output, answers, pictures, predictions.name, title, overlays)
    size = output.stat().st_size
    print(f"wrote {output}: {len(answers)} figures, {size / 1e6:.1f} MB")
