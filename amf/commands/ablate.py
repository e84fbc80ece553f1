"""`amf ablate`: the paper's Table 1, a baseline and twelve variants over five folds."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from amf.commands.trial import add_trial_arguments, run_trial
from amf.experiments.ablation import FOLDS, TABLE, ablation_trial, collect_ablation
from amf.training.recipe import read_recipe


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", type=Path, help="YAML recipe; each row sets its own augmentation and mixup")
    add_trial_arguments(parser, "cell", FOLDS)


def run(arguments: Namespace) -> int:
    """Run cells and folds, or join them; prints the table."""
    return run_trial(arguments, ablation_trial(read_recipe(arguments.recipe)), collect_ablation, TABLE)
