"""`amf reproduce`: the paper from nothing to its container, stage by stage, resumable."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from amf.commands.fetch import acknowledge
from amf.errors import RecipeError
from amf.experiments.plan import read_plan
from amf.experiments.preflight import Check, as_table, refuse
from amf.experiments.reproduce import STAGES, Work, chosen_stages, preflight, run_stages
from amf.files import folder_to_write

TRAINING = ("lodo", "grid", "ablation", "final")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command's arguments."""
    stages = ", ".join(STAGES)
    parser.add_argument("plan", type=Path, help="YAML file that names the recipes, as recipes/paper.yaml")
    parser.add_argument(
        "--out", type=folder_to_write, required=True, help="folder for everything; run again, it continues"
    )
    parser.add_argument(
        "--root", type=Path, help="folder of the published data sets; default: published in --out"
    )
    parser.add_argument(
        "--check", action="store_true", help="only ask whether all is there and fits, and how long"
    )
    parser.add_argument("--only", metavar="STAGE", help=f"of {stages}")
    parser.add_argument("--from", dest="first", metavar="STAGE", help="the first stage to run")
    parser.add_argument("--until", dest="last", metavar="STAGE", help="the last stage to run")
    parser.add_argument(
        "--accept-licence",
        action="store_true",
        help="the data sets' licences are accepted; else each is asked for",
    )


def run(arguments: Namespace) -> int:
    """Check, then run what is not done; the preflight's table is printed and a no ends it."""
    plan = read_plan(arguments.plan)
    names = chosen_stages(arguments.only, arguments.first, arguments.last)
    root = arguments.root or arguments.out / "published"
    work = Work(plan, arguments.out, root, acknowledge(arguments.accept_licence))
    if arguments.check:
        checks = preflight(work, names, measure=True)
        print(as_table(checks))
        return 0 if all(check.ok for check in checks) else RecipeError.exit_code
    _go_or_stop(preflight(work, names, measure=False))
    before = [name for name in names if name in ("fetch", "table")]
    run_stages(work, before)
    rest = names[len(before) :]
    if set(rest) & set(TRAINING):
        _go_or_stop(preflight(work, rest, measure=True))
    run_stages(work, rest)
    return 0


def _go_or_stop(checks: list[Check]) -> None:
    print(as_table(checks), flush=True)
    sys.stdout.flush()
    refuse(checks)
