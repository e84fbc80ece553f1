"""The errors a user can cause. Each knows the exit code that reports it.

Every message is one sentence that names the file, what was found and what was expected:
the platform shows the last line of stderr, and nothing else, as the reason a job failed.
"""


class AmfError(Exception):
    """Base of all errors whose cause lies outside this code; `exit_code` is what the process returns."""

    exit_code = 1

    def __str__(self) -> str:
        """The message on a single line: a file name may hold a newline, the platform shows one line only."""
        line = " ".join(super().__str__().split())
        return line if len(line) <= 1000 else f"{line[:500]} … {line[-450:]}"


class JobError(AmfError):
    """The input folder is not a valid job, or its output cannot be written."""

    exit_code = 2


class BundleError(AmfError):
    """The bundle in the model folder is missing, damaged or of another format."""

    exit_code = 3


class DataError(AmfError):
    """A training or evaluation data set (table, patch, split, prediction file) is not what it should be."""

    exit_code = 2


class RecipeError(AmfError):
    """A recipe holds an unknown key or a value out of range."""

    exit_code = 2


class Interrupted(AmfError):
    """The user ended the command from the keyboard; what it had finished is kept."""

    exit_code = 130


class AccountingError(RuntimeError):
    """A bug of ours: something given was neither used nor refused, or both."""


def account(what: str, given: int, used: int, refused: int) -> None:
    """Check that everything given was either used or refused, and counted once.

    Raises
    ------
    AccountingError : given is not used + refused.
    """
    if given != used + refused:
        raise AccountingError(
            f"{what}: {given} were given, but {used} used and {refused} refused: this is a bug of amf"
        )
