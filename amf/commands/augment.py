"""`amf augment`: draw every augmentation on real patches as one picture."""

from pathlib import Path
from typing import Annotated

from typer import Option

from amf.errors import DataError
from amf.files import file_to_write, written_whole


def run(
    patches: Annotated[Path, Option(metavar="DIR", help="folder with PNG patches")],
    out: Annotated[Path, Option(parser=file_to_write, metavar="FILE.png", help="the picture to write")],
    count: Annotated[int, Option(min=1, help="patches to show, one a column")] = 10,
    seed: Annotated[int, Option(help="of the random parameters")] = 0,
    field_of_view_px: Annotated[
        int | None, Option(metavar="PX", help="centre of the patch to show; by default all of it")
    ] = None,
) -> None:
    """Draw every augmentation on real patches as one picture."""
    from amf.augmentation.contact_sheet import draw_augmentations, read_examples

    examples = read_examples(patches, count)
    side_px = examples.shape[-1]
    field_of_view_px = field_of_view_px or side_px
    if not 0 < field_of_view_px <= side_px:
        raise DataError(f"--field-of-view-px is {field_of_view_px}, expected 1 to the patches' {side_px} px")
    sheet = draw_augmentations(examples, field_of_view_px, seed)
    with written_whole(out) as partial:
        sheet.save(partial, format="PNG")
    print(f"{out}: {len(examples)} patches")
