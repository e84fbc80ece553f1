"""`amf calibrate`: temperature, bias and threshold from out-of-fold predictions, and nothing else."""

from pathlib import Path
from typing import Annotated

from typer import Option

from amf.commands.options import Lodo
from amf.files import folder_to_write


def run(
    lodo: Lodo,
    out: Annotated[
        Path,
        Option(parser=folder_to_write, metavar="DIR", help="folder for calibration.json and the plots"),
    ],
    bundle: Annotated[
        Path | None, Option(metavar="DIR", help="write the three values into this bundle, too")
    ] = None,
) -> None:
    """Fit temperature, bias and threshold to the out-of-fold logits; prints them."""
    from amf.experiments.calibration import CALIBRATION, calibrate, calibrate_bundle
    from amf.experiments.lodo import read_lodo

    calibration = calibrate(read_lodo(lodo), out)
    print((out / f"{CALIBRATION}.md").read_text(encoding="utf-8"))
    if bundle:
        calibrate_bundle(calibration, bundle)
        print(f"{bundle}: calibrated, with their model card")
