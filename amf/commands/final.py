"""`amf final`: train on all domains, calibrate from LODO, export the bundle with its model card."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import open_figures
from amf.experiments.calibration import calibrate
from amf.experiments.final import bundle_final, horizon, run_final
from amf.training.recipe import read_recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML recipe, the LODO runs' own")
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and the calibration")
    parser.add_argument(
        "--lodo",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="folders that `amf lodo` has joined",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="a member each (default: 0)")
    parser.add_argument("--bundle", type=Path, help="the bundle's folder (default: bundle in --out)")


def run(arguments: Namespace) -> int:
    """Train the members to LODO's horizon, calibrate from its predictions, write the bundle."""
    recipe, figures = read_recipe(arguments.recipe), open_figures(arguments.data)
    epochs = horizon(recipe, figures, arguments.lodo)
    runs = run_final(recipe, figures, arguments.out, arguments.seeds, epochs)
    if PartialState().is_main_process:
        calibration = calibrate(arguments.lodo, arguments.out)
        target = arguments.bundle or arguments.out / "bundle"
        spec = bundle_final(recipe, figures, runs, arguments.lodo, calibration, target)
        print(f"{target}: {len(spec.members)} members, threshold {spec.threshold:.4f}")
    return 0
