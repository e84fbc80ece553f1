"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amf.errors import AmfError, DataError


@contextmanager
def written_whole(
    path: Path, error: type[AmfError] = DataError, survives_power_cut: bool = True
) -> Iterator[Path]:
    """Yield a new file beside `path` to write to; it becomes `path` at the end, or goes if writing fails.

    Its name is its own, hidden and ends in .partial, so that two writers never share one. The folder is made
    where it is missing; everybody may read the file, as the platform and the container do under other users.

    Parameters
    ----------
    survives_power_cut : the content is on the disk itself before the name changes, which takes it some 8 ms;
        against a killed process the change of name is enough.

    Raises
    ------
    error : an OSError kept the file from being written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".partial")
        partial = Path(name)
        os.close(handle)
        yield partial
        if survives_power_cut:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as fault:
        raise error(f"{path} cannot be written: {fault.strerror or fault}") from fault
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_text(
    path: Path, text: str, error: type[AmfError] = DataError, survives_power_cut: bool = True
) -> None:
    """Write a UTF-8 text file whole or not at all; takes and raises what `written_whole` does."""
    with written_whole(path, error, survives_power_cut) as partial:
        partial.write_text(text, encoding="utf-8")


def check_regular(path: Path) -> None:
    """Raise OSError where a path is no file: opening a pipe would wait for its writer."""
    if path.exists() and not path.is_file():
        raise OSError(f"it is {'a folder' if path.is_dir() else 'no regular file'}")


def folder_to_write(text: str) -> Path:
    """The folder that a command is told to write into, which need not be there yet: the type of an argument.

    Raises
    ------
    DataError : it cannot be made or written into, which is better said before the work than after it.
    """
    path = Path(text)
    _check_can_be_made(path / "file", f"{path} cannot be written into")
    return path


def file_to_write(text: str) -> Path:
    """The file that a command is told to write. Raises DataError as `folder_to_write`, and for a folder."""
    path = Path(text)
    _check_can_be_made(path, f"{path} cannot be written")
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected the name of a file to write")
    return path


def _check_can_be_made(path: Path, refusal: str) -> None:
    """Look for the nearest place above a file that exists: it must be a folder that takes files."""
    try:
        above = path.absolute().parent
        while not os.path.lexists(above):
            above = above.parent
        if not above.is_dir():
            raise DataError(f"{refusal}: {above} is not a folder")
        with tempfile.TemporaryFile(dir=above):
            pass  # whatever may forbid it: rights, a read-only disk, a file system that takes no files
    except OSError as fault:
        raise DataError(f"{refusal}: {fault.strerror or fault}") from fault
