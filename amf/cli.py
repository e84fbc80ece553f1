"""`amf COMMAND …`: the command line.

Each command is a module of amf.commands; only the named one is imported, so `amf predict`
does not pay for pandas or scikit-learn.
"""

import argparse
import importlib
import sys
import warnings
from pathlib import Path
from typing import TextIO

from amf.errors import AmfError, Interrupted

COMMANDS = {  # command = module of amf.commands -> one line of help
    "fetch": "published data sets from their repositories, checked and unpacked for `amf data`",
    "data": "published data sets -> patch table, packed patches, counts and plots",
    "augment": "draw every augmentation on real patches as one picture",
    "fit": "train one recipe on the figures that `amf data` packed",
    "lodo": "leave one domain out: folds, summary, grids of recipes, two recipes compared",
    "ablate": "the paper's Table 1: baseline and twelve augmentations over five folds",
    "trial": "changed copies of one recipe side by side, cross-validated inside the training data",
    "calibrate": "temperature, bias and threshold from out-of-fold predictions",
    "final": "train on all domains, calibrate from LODO, export the bundle",
    "reproduce": "the paper from nothing to its container: every stage in its order, resumable",
    "evaluate": "score predictions as the organisers do, with intervals, and write a report",
    "inspect": "verify a bundle and print what is in it",
    "slide": "classify the mitotic figures of slides: GeoJSON, CSV or databases in, GeoJSON or tables out",
    "review": "one page to look at predictions, correct them by vote and download the votes",
    "predict": "score folders, files or tables of patches and stacks into one table",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; a user's error is one sentence on stderr and its exit code.

    Returns
    -------
    0 done; 2 a wrong input or argument, or a package that is not installed; 3 an unusable bundle
    (see amf.errors); 130 interrupted from the keyboard.
    """
    parser = argparse.ArgumentParser(prog="amf", description="Atypical mitotic figures, offline and online.")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=_summary())
    arguments = sys.argv[1:] if argv is None else argv
    command = parser.parse_args(arguments[:1]).command

    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_on_stdout
            module = importlib.import_module(f"amf.commands.{command}")
            command_parser = argparse.ArgumentParser(prog=f"amf {command}", description=COMMANDS[command])
            module.add_arguments(command_parser)
            return int(module.run(command_parser.parse_args(arguments[1:])))
    except AmfError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"amf {command} was interrupted", file=sys.stderr)
        return Interrupted.exit_code
    except OSError as error:  # what no command foresaw about a file is said all the same, not shown as a bug
        print(
            f"{error.filename or 'a file'} cannot be read or written: {error.strerror or error}",
            file=sys.stderr,
        )
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "amf"):  # a bug of ours, not a missing package
            raise
        print(
            f"`amf {command}` needs the package {package}, which is not installed: "
            "run `pip install '.[train]'` in the checkout",
            file=sys.stderr,
        )
        return 2


def _show_on_stdout(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of a library in one line of the log: stderr is for progress and for our sentence."""
    print(f"{category.__name__} of {Path(filename).name}: {' '.join(str(message).split())}")


def _summary() -> str:
    return "; ".join(f"{name}: {summary}" for name, summary in COMMANDS.items())


if __name__ == "__main__":
    raise SystemExit(main())
