"""`amf reproduce`: the paper from nothing to its container, stage by stage, resumable."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit, Option

from amf.commands.fetch import acknowledge
from amf.errors import RecipeError
from amf.files import folder_to_write

if TYPE_CHECKING:
    from amf.experiments.preflight import Check

TRAINING = ("lodo", "grid", "ablation", "final")


def run(
    plan: Annotated[Path, Argument(help="YAML file that names the recipes, as recipes/paper.yaml")],
    out: Annotated[
        Path,
        Option(parser=folder_to_write, metavar="DIR", help="folder for everything; run again, it continues"),
    ],
    root: Annotated[
        Path | None,
        Option(metavar="DIR", help="folder of the published data sets; by default published in --out"),
    ] = None,
    check: Annotated[
        bool, Option("--check", help="only ask whether all is there and fits, and how long")
    ] = False,
    only: Annotated[str | None, Option(metavar="STAGE", help="the one stage to run")] = None,
    first: Annotated[str | None, Option("--from", metavar="STAGE", help="the first stage to run")] = None,
    last: Annotated[str | None, Option("--until", metavar="STAGE", help="the last stage to run")] = None,
    accept_licence: Annotated[
        bool,
        Option("--accept-licence", help="the data sets' licences are accepted; else each is asked for"),
    ] = False,
) -> None:
    """Check, then run what is not done; the preflight's table is printed and a no ends it."""
    from amf.experiments.plan import read_plan
    from amf.experiments.preflight import as_table
    from amf.experiments.reproduce import Work, chosen_stages, preflight, run_stages

    names = chosen_stages(only, first, last)
    root = root or out / "published"
    work = Work(read_plan(plan), out, root, acknowledge(accept_licence))
    if check:
        checks = preflight(work, names, measure=True)
        print(as_table(checks))
        raise Exit(0 if all(one.ok for one in checks) else RecipeError.exit_code)
    _go_or_stop(preflight(work, names, measure=False))
    before = [name for name in names if name in ("fetch", "table")]
    run_stages(work, before)
    rest = names[len(before) :]
    if set(rest) & set(TRAINING):
        _go_or_stop(preflight(work, rest, measure=True))
    run_stages(work, rest)


def _go_or_stop(checks: "list[Check]") -> None:
    from amf.experiments.preflight import as_table, refuse

    print(as_table(checks), flush=True)
    sys.stdout.flush()
    refuse(checks)
