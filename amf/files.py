"""Files that appear whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from amf.errors import AmfError, DataError


@contextmanager
def written_whole(path: Path, error: type[AmfError] = DataError) -> Iterator[Path]:
    """Yield a new file beside `path` to write to; it becomes `path` at the end, or goes if writing fails.

    Its name is its own, hidden and ends in .partial, so that two writers never share one. The folder is made
    where it is missing; the content is on disk before the name changes; everybody may read the file, as the
    platform and the container do under other users.

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
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as fault:
        raise error(f"{path} cannot be written: {fault.strerror or fault}") from fault
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, error: type[AmfError] = DataError) -> None:
    """Write a UTF-8 text file whole or not at all; raises as `written_whole`."""
    with written_whole(path, error) as partial:
        partial.write_text(text, encoding="utf-8")
