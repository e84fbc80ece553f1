"""`amf final`: from a table to a bundle: LODO, members trained on all domains, calibration, export."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from accelerate import PartialState

from amf.data.figures import open_figures
from amf.data.splits import leave_one_domain_out
from amf.experiments.final import bundle_final, check_members, run_final
from amf.experiments.lodo import collect_lodo, ensemble, member_folder, read_lodo, run_fold_of
from amf.experiments.preflight import check_before_run
from amf.files import folder_to_write
from amf.training.recipe import read_recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, nargs="+", help="YAML recipes: the members of one ensemble")
    parser.add_argument("--data", type=Path, required=True, help="folder that `amf data` wrote")
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder for the runs and the calibration"
    )
    parser.add_argument(
        "--lodo",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="folders that `amf lodo` has joined, which together hold the very same members; by default "
        "it runs here, in lodo in --out",
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="a member each, in place of the recipe's own seed"
    )
    parser.add_argument("--bundle", type=Path, help="the bundle's folder (default: bundle in --out)")


def run(arguments: Namespace) -> int:
    """Train the members to their horizon, calibrate by their own out-of-fold logits, write the bundle."""
    members = ensemble([read_recipe(path) for path in arguments.recipe], arguments.seeds)
    figures, out = open_figures(arguments.data), arguments.out
    check_before_run(members, len(figures.domains))
    if not arguments.lodo:
        folder = out / "lodo"
        for member in members:
            for split in leave_one_domain_out(figures.table):
                run_fold_of(member, figures, member_folder(folder, members, member), split)
        if PartialState().is_main_process:
            collect_lodo(members, figures, folder)
        PartialState().wait_for_everyone()
    lodo = read_lodo(arguments.lodo or [out / "lodo"])
    check_members(members, figures, lodo)
    runs = run_final(members, figures, lodo, out)
    if PartialState().is_main_process:
        target = arguments.bundle or out / "bundle"
        spec = bundle_final(members, figures, lodo, runs, out, target)
        print(f"{target}: {len(spec.members)} members, threshold {spec.threshold:.4f}")
    return 0
