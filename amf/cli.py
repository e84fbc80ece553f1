"""`amf COMMAND …`: the command line.

Each command is a module of amf.commands, whose function `run` has the command's arguments for its signature.
Only the module of the command that is asked for is imported; it imports what takes long in `run`, so that
help and a wrong argument are quick.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from amf import __version__
from amf.errors import AmfError, Interrupted
from amf.inference.streams import outlive_readers
from amf.launcher import check_launcher

GROUPS = {  # what people do -> command = module of amf.commands -> one line of help
    "Score": {
        "predict": "score folders, files or tables of patches and stacks into one table",
        "slide": "classify the mitotic figures of slides: GeoJSON, CSV or databases in and out",
        "join": "the parts that `--shard` of predict or slide wrote into the whole output",
    },
    "Look": {
        "review": "one page to look at predictions, correct them by vote and download the votes",
        "evaluate": "score predictions as the organisers do, with intervals, and write a report",
        "inspect": "verify a bundle and print what is in it",
    },
    "Train": {
        "check": "before a long run: recipes, weights, licences, disk and GPU",
        "fit": "train one recipe on the figures that `amf data` packed",
        "lodo": "leave one domain out: folds, summary, recipes ranked, two runs compared",
        "ablate": "the paper's Table 1: a recipe and its variants, beside the paper's numbers",
        "trial": "changed copies of one recipe, cross-validated inside the training data",
        "calibrate": "temperature, bias and threshold from out-of-fold predictions",
        "final": "train on all domains, calibrate from LODO, export the bundle",
    },
    "Data": {
        "fetch": "published data sets from their repositories, checked and unpacked",
        "data": "published data sets into a patch table, packed patches, counts and plots",
        "job": "patches of a folder into a job for the container",
        "augment": "draw every augmentation on real patches as one picture",
    },
}

EXTRA_OF = {
    **dict.fromkeys(("jinja2", "markupsafe", "openslide", "shapely", "tifffile"), "slides"),
    "snakemake": "workflow",
}
"""The extra that installs a package; those of `train` are not listed."""


class Command(TyperCommand):
    """One command: refuses what a launcher left behind, and lets one flag take several values.

    An option whose metavar ends in "..." takes all values up to the next flag: `--seeds 0 1 2` is read as
    `--seeds 0 --seeds 1 --seeds 2`, which is how typer takes several.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the flags that take several values, then parse."""
        several = {flag for option in self.params for flag in option.opts if _takes_several(option)}
        return super().parse_args(ctx, list(_repeated(several, args)))

    def invoke(self, ctx: Any) -> Any:
        """Run the command, in a process that is alone or that a launcher has started."""
        check_launcher()
        return super().invoke(ctx)


class Commands(TyperGroup):
    """All commands; those of GROUPS stand in the help before their modules are imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for commands in GROUPS.values():
            for name, summary in commands.items():
                self.add_command(TyperCommand(name, short_help=summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is asked for, imported, and its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and _load(args[0]), rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the groups and their commands."""
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl(list(commands.items()))


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"amf {__version__}")
        raise typer.Exit


@app.callback()
def _amf(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Normal or atypical mitotic figures: score, look, train."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's error is one sentence on stderr and its exit code.

    Returns
    -------
    0 done; 2 a wrong input or argument, or a package that is not installed; 3 an unusable bundle
    (see amf.errors); 130 interrupted from the keyboard.
    """
    outlive_readers()
    arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    name = " ".join(["amf", *arguments[:1]])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_on_stdout
            code = typer.main.get_command(app).main(arguments, prog_name="amf", standalone_mode=False) or 0
    except typer.TyperException as error:  # a wrong argument
        return _refuse(f"{name}: {error.format_message().replace('Value error, ', '').rstrip('.')}", 2)
    except AmfError as error:
        return _refuse(error, error.exit_code)
    except typer.Abort:
        code = Interrupted.exit_code
    except OSError as error:  # what no command foresaw about a file is said all the same, not shown as a bug
        return _refuse(
            f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}", 2
        )
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "amf"):  # a bug of ours, not a missing package
            raise
        extra = EXTRA_OF.get(package, "train")
        remedy = f"run `pip install '.[{extra}]'` in the checkout, or install the wheel with [{extra}]"
        return _refuse(f"`{name}` needs the package {package}, which is not installed: {remedy}", 2)
    return _refuse(f"{name} was interrupted", code) if code == Interrupted.exit_code else code


def _refuse(sentence: object, code: int) -> int:
    print(" ".join(str(sentence).split()), file=sys.stderr)
    return code


def _load(name: str) -> Any:
    """The command of a module of amf.commands; its help is what the docstring of `run` says."""
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command(name, cls=Command)(importlib.import_module(f"amf.commands.{name}").run)
    return typer.main.get_command(alone)


def _takes_several(option: Any) -> bool:
    return (option.metavar or "").endswith("...") and option.param_type_name == "option"


def _repeated(several: set[str], arguments: Sequence[str]) -> Iterator[str]:
    flag = before = None
    for argument in arguments:
        if argument.startswith("-"):
            flag = argument if argument in several else None
        elif flag is not None and before != flag:
            yield flag
        yield argument
        before = argument


def _show_on_stdout(
    message: Warning | str, category: type[Warning], filename: str, *_: Any, **__: Any
) -> None:
    """Print a warning of a library in one line of the log: stderr is for progress and for our sentence."""
    print(f"{category.__name__} of {Path(filename).name}: {' '.join(str(message).split())}")


if __name__ == "__main__":
    raise SystemExit(main())
