"""`amf final`: from a table to a bundle: LODO, members trained on all domains, calibration, export."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from amf.commands.options import Data, Seeds
from amf.files import folder_to_write


def run(
    recipe: Annotated[list[Path], Argument(help="YAML recipes: the members of one ensemble")],
    data: Data,
    out: Annotated[
        Path, Option(parser=folder_to_write, metavar="DIR", help="folder for the runs and the calibration")
    ],
    lodo: Annotated[
        list[Path] | None,
        Option(
            metavar="DIR...",
            help="folders that `amf lodo` has joined, which together hold the very same members; by default "
            "it runs here, in lodo in --out",
        ),
    ] = None,
    seeds: Seeds = None,
    bundle: Annotated[
        Path | None, Option(metavar="DIR", help="the bundle's folder; by default bundle in --out")
    ] = None,
) -> None:
    """Train the members to their horizon, calibrate by their own out-of-fold logits, write the bundle."""
    from amf.training.recipe import read_recipe

    recipes = [read_recipe(path) for path in recipe]
    from accelerate import PartialState

    from amf.data.figures import open_figures
    from amf.experiments.card import held_out_in_words
    from amf.experiments.final import bundle_final, run_final
    from amf.experiments.folds import run_missing
    from amf.experiments.lodo import collect_lodo, ensemble, lodo_runs, read_lodo

    members = ensemble(recipes, seeds)
    figures = open_figures(data)
    if not lodo:
        folder = out / "lodo"
        if run_missing(lodo_runs(members, figures, folder), figures):
            collect_lodo(members, figures, folder)
        PartialState().wait_for_everyone()
    out_of_fold = read_lodo(lodo or [out / "lodo"])
    out_of_fold.check_members(members, figures.table_hash, "the bundle")
    runs = run_final(members, figures, out_of_fold, out)
    if PartialState().is_main_process:
        target = bundle or out / "bundle"
        spec, calibration = bundle_final(members, figures, out_of_fold, runs, out, target)
        print(f"{target}: {len(spec.members)} members, threshold {spec.threshold:.4f}")
        print(held_out_in_words(calibration.held_out))
        for warning in calibration.warnings:
            print(f"WARNING: {warning}")
