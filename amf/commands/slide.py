"""`amf slide`: a slide and the places of its mitotic figures in; the figures with their classes out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from amf.commands.options import ByContent, Device, Members, Model, Shard, Views
from amf.errors import DataError
from amf.files import file_to_write


def run(
    slide: Annotated[
        Path | None, Argument(help="whatever OpenSlide reads, any 8-bit RGB TIFF, or a folder of DICOM files")
    ] = None,
    figures: Annotated[
        Path | None,
        Argument(
            help="GeoJSON (QuPath), JSON (MIDOG, COCO), a database (SlideRunner, TIAToolbox), "
            "or CSV or Parquet with x and y (px)"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Option(
            parser=file_to_write,
            metavar="OUT",
            help=".geojson, .json, .csv or .parquet; JSON is GeoJSON for QuPath",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        Option(
            metavar="PAIRS",
            help="many at once: .csv or .parquet with the columns slide, figures, output, relative to its "
            "folder, and mpp and area where they differ; outputs that exist are left as they are",
        ),
    ] = None,
    mpp: Annotated[
        float | None,
        Option(
            min=0.01,
            max=100,
            metavar="X",
            help="µm/px of the slide's finest level; default: the file's own",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        Option("--class", "--category", metavar="NAME", help="a class that is figures; may be given again"),
    ] = None,
    boxes: Annotated[
        Literal["corners", "size"] | None,
        Option(help="what follows left and top in a box, where the boxes do not tell"),
    ] = None,
    area: Annotated[
        Path | None,
        Option(
            metavar="AREA",
            help="count figures a mm² in the regions of a GeoJSON file, or in the slide's tissue: `tissue`",
        ),
    ] = None,
    model: Model = None,
    by_content: ByContent = False,
    device: Device = "auto",
    members: Members = None,
    views: Views = None,
    shard: Shard = None,
) -> None:
    """Classify the figures of a slide; what cannot be scored is listed beside the output, and is an error."""
    from amf.bulk.join import SLIDE_SUFFIXES, check_output
    from amf.bulk.pairs import Pair, read_pairs
    from amf.bulk.run import open_scorer
    from amf.bulk.slide_table import score_pair, score_pairs

    wanted = tuple(classes or ())
    settings = model, device, members, views, by_content, shard
    if table is not None and slide is figures is output is None:
        pairs = [
            replace(pair, mpp=pair.mpp or mpp, area=pair.area or area, classes=wanted, boxes=boxes)
            for pair in read_pairs(table)
        ]
        score_pairs(pairs, open_scorer(*settings))
    elif table is None and slide is not None and figures is not None and output is not None:
        check_output(output, SLIDE_SUFFIXES)
        score_pair(Pair(slide, figures, output, mpp, area, wanted, boxes), open_scorer(*settings))
    else:
        raise DataError("`amf slide` needs SLIDE, FIGURES and --output, or --table and none of them")
