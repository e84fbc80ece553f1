"""Published data sets, downloaded by pooch and checked against the records of their repositories.

What a data recipe reads (`AMI-BR.csv`, `AMi-Br/`, …) ends up below one root. Until a data set is complete it
lies in `ROOT/.fetch/NAME`, where a file has its name only once it is whole; what lies there already and has
the record's checksum is not downloaded again.
"""

import errno
import hashlib
import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
from tqdm import tqdm

from amf.data.repositories import RETRIES, Record, at_mirror, dataset, network_faults
from amf.errors import DataError

STORE = ".fetch"
LISTED = 20
"""Of what a publisher ships under other names, so many are named in the error."""


def fetch(
    name: str, root: Path, accept: Callable[[Record], bool], names: Mapping[str, str] | None = None
) -> list[Record]:
    """Put one data set below `root`.

    Parameters
    ----------
    accept : is shown the record with its licence before anything is downloaded; False refuses.
    names : as Dataset.places, in place of single ones of them.

    Returns
    -------
    The records by which it was fetched; none where all of it was there already.

    Raises
    ------
    DataError : no such data set; the licence is not accepted; the repository is out of reach, refuses, breaks
        off or sends other bytes than its record says; no space; names that are not the expected ones. Files
        that are whole are kept, and the next call goes on with the others.
    """
    wanted = dataset(name)
    places = {**wanted.places, **(names or {})}
    absent = {place: published for place, published in places.items() if not (root / place).exists()}
    if not absent:
        return []
    records = wanted.records()
    for record in records:
        if not accept(record):
            raise DataError(
                f"{name}: the licence of {record.page} ({record.licence}) has not been accepted: "
                "read it there, then say --accept-licence"
            )
    store = root / STORE / name
    with _disk_faults(root):
        store.mkdir(parents=True, exist_ok=True)
        needed, free = 2 * sum(record.size for record in records), shutil.disk_usage(store).free
        if needed > free:  # the archives and what they hold
            raise DataError(f"{root} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")
        for record in records:
            _download(record, store)
        _place(name, absent, store, root)
        shutil.rmtree(store)
    return records


def _download(record: Record, store: Path) -> None:
    """All files of a record into `store`, each archive unpacked into a folder of its name."""
    pooch.get_logger().setLevel(logging.WARNING)
    keeper = pooch.create(
        path=store,
        base_url="",
        registry={file: record.checksums.get(file) for file in record.urls},
        urls={file: at_mirror(url) for file, url in record.urls.items()},
        retry_if_failed=RETRIES,
    )
    for file, url in record.urls.items():
        unpacked = store / file.removesuffix(".zip")
        host = urlsplit(url).netloc
        if not unpacked.is_dir():
            try:
                # pooch takes a bar that is true only with a total, and sets the total itself
                with (
                    network_faults(url),
                    tqdm(total=1, desc=file, unit="B", unit_scale=True, disable=None) as bar,
                ):
                    path = Path(keeper.fetch(file, downloader=pooch.HTTPDownloader(progressbar=bar)))
            except ValueError:  # pooch's word for a checksum that differs; its copy is gone
                expected = f"has not the checksum of its record ({record.checksums.get(file)})"
                raise DataError(
                    f"{file} from {host} {expected}: nothing of it is kept, run this again"
                ) from None
            if path.suffix == ".zip":
                _unpack(path, unpacked, record.blobs, host)


def _unpack(archive: Path, target: Path, blobs: Mapping[str, str], host: str) -> None:
    """Unpack an archive whole or not at all; its files must be those of the Git tree, if it is of one."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        pooch.Unzip(extract_dir=partial.name)(str(archive), "download", None)
        shutil.rmtree(partial / "__MACOSX", ignore_errors=True)
        inner = list(partial.iterdir())
        top = inner[0] if len(inner) == 1 and inner[0].is_dir() else partial
        for path in _files(top) if blobs else []:
            name, content = path.relative_to(top).as_posix(), path.read_bytes()
            found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            if blobs.get(name) != found:
                raise zipfile.BadZipFile(f"{name} is not as in its repository's record")
        top.rename(target)
        archive.unlink()
    except zipfile.BadZipFile as error:
        archive.unlink()
        raise DataError(
            f"{archive.name} from {host} is damaged: {error}: nothing of it is kept, run this again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _place(name: str, places: Mapping[str, str], tree: Path, root: Path) -> None:
    """Move what is published to where `amf data` reads it."""
    found = {place: path for place, published in places.items() if (path := _find(tree, published))}
    if unknown := [place for place in places if place not in found]:
        raise DataError(
            f"{name}: nothing that was published is called {' or '.join(places[p] for p in unknown)}; found "
            f"{_listing(tree)}: say --name {unknown[0]}=PUBLISHED"
        )
    # the deepest first: one place may lie in the folder of another
    for place, path in sorted(found.items(), key=lambda item: -len(item[1].parts)):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        path.rename(root / place)


def _find(tree: Path, published: str) -> Path | None:
    """The one path whose end is `published`, whatever its case; of several, the one highest up."""
    wanted = PurePosixPath(published.lower()).parts
    ends = {path: PurePosixPath(str(path.relative_to(tree)).lower()).parts for path in tree.rglob("*")}
    matches = sorted((len(parts), path) for path, parts in ends.items() if parts[-len(wanted) :] == wanted)
    alone = len(matches) == 1 or (matches and matches[0][0] < matches[1][0])
    return matches[0][1] if alone else None


def _listing(tree: Path) -> str:
    """What lies in a folder: single files by name, the files of one kind in one folder by their number."""
    groups: dict[tuple[str, str], list[str]] = {}
    for path in _files(tree):
        relative = path.relative_to(tree)
        groups.setdefault((relative.parent.as_posix(), path.suffix), []).append(relative.as_posix())
    lines = [
        ", ".join(paths) if len(paths) < 4 else f"{folder}/*{suffix} ({len(paths)} files)"
        for (folder, suffix), paths in sorted(groups.items())
    ]
    return ", ".join(lines[:LISTED]) + (f" and {len(lines) - LISTED} more" if len(lines) > LISTED else "")


def _files(path: Path) -> list[Path]:
    return sorted(inner for inner in path.rglob("*") if inner.is_file())


@contextmanager
def _disk_faults(root: Path) -> Iterator[None]:
    """Turn what the disk refuses into DataError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"{root} is full: make room and run this again, it goes on") from error
        raise DataError(f"{error.filename or root} cannot be written: {error.strerror or error}") from error
