"""`amf calibrate`: temperature, bias and threshold from out-of-fold predictions, and nothing else."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from amf.experiments.calibration import CALIBRATION, calibrate, calibrate_bundle
from amf.experiments.lodo import read_lodo
from amf.files import folder_to_write


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--lodo", type=Path, nargs="+", required=True, metavar="DIR",
        help="folders that `amf lodo` has joined: the logits of all their members are averaged",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder for calibration.json and the plots"
    )
    parser.add_argument("--bundle", type=Path, help="write the three values into this bundle, too")


def run(arguments: Namespace) -> int:
    """Fit, write, print; with --bundle the bundle takes the values."""
    calibration = calibrate(read_lodo(arguments.lodo), arguments.out)
    print((arguments.out / f"{CALIBRATION}.md").read_text(encoding="utf-8"))
    if arguments.bundle:
        calibrate_bundle(calibration, arguments.bundle)
        print(f"{arguments.bundle}: calibrated, with their model card")
    return 0
