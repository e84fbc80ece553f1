"""`amf augment`: draw every augmentation on real patches as one picture."""

import argparse
from pathlib import Path

from amf.augmentation.contact_sheet import draw_augmentations, read_examples
from amf.errors import DataError
from amf.files import file_to_write, written_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags."""
    parser.add_argument("--patches", type=Path, required=True, metavar="DIR", help="folder with PNG patches")
    parser.add_argument(
        "--out", type=file_to_write, required=True, metavar="FILE.png", help="the picture to write"
    )
    parser.add_argument("--count", type=int, default=10, help="patches to show, one a column (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the random parameters (default: 0)")
    parser.add_argument(
        "--field-of-view-px", type=int, metavar="PX", help="centre of the patch to show (default: all of it)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the contact sheet; 0 when it is there."""
    if arguments.count < 1:
        raise DataError(f"--count is {arguments.count}, expected at least one patch")
    patches = read_examples(arguments.patches, arguments.count)
    side_px = patches.shape[-1]
    field_of_view_px = arguments.field_of_view_px or side_px
    if not 0 < field_of_view_px <= side_px:
        raise DataError(f"--field-of-view-px is {field_of_view_px}, expected 1 to the patches' {side_px} px")
    sheet = draw_augmentations(patches, field_of_view_px, arguments.seed)
    with written_whole(arguments.out) as partial:
        sheet.save(partial, format="PNG")
    print(f"{arguments.out}: {len(patches)} patches")
    return 0
