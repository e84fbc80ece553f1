"""`amf calibrate`: temperature, bias and threshold from out-of-fold predictions, or a threshold by hand."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import Lodo
from amf.errors import DataError
from amf.files import folder_to_write


def run(
    bundle: Annotated[Path | None, Argument(help="the bundle that takes the values")] = None,
    threshold: Annotated[
        float | None, Option(metavar="X", help="set this threshold in the bundle by hand, fit nothing")
    ] = None,
    lodo: Lodo = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="folder for calibration.json and the plots")
    ] = None,
    target: Annotated[Path | None, Option("--bundle", metavar="DIR", help="the same as the argument")] = None,
) -> None:
    """Fit temperature, bias and threshold to the out-of-fold logits and print them, or set a threshold."""
    bundle = bundle or target
    if threshold is not None:
        if bundle is None or lodo:
            raise DataError("`amf calibrate --threshold X` needs a bundle, and no --lodo")
        from amf.experiments.calibration import set_threshold

        set_threshold(bundle, threshold)
        print(f"{bundle}: threshold {threshold:g}, set by hand")
        return
    if not lodo or out is None:
        raise DataError("`amf calibrate` needs --lodo and --out, or a bundle and --threshold")
    from amf.experiments.calibration import CALIBRATION, calibrate, calibrate_bundle
    from amf.experiments.lodo import read_lodo

    out = folder_to_write(str(out))
    out_of_fold = read_lodo(lodo)
    calibration = calibrate(out_of_fold, out)
    print((out / f"{CALIBRATION}.md").read_text(encoding="utf-8"))
    if bundle:
        calibrate_bundle(calibration, out_of_fold, bundle)
        print(f"{bundle}: calibrated, with its model card")
