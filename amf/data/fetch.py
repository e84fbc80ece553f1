"""Published data sets from the repositories that hold them, checked against those repositories' own records.

What a data recipe reads (`AMI-BR.csv`, `AMi-Br/`, …) ends up below one root. Downloads, records and what is
unpacked but not yet in its place lie in `ROOT/.fetch`; a file has its name only once it is whole.
"""

import email.utils
import errno
import hashlib
import json
import os
import re
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import pooch
import requests
from tqdm import tqdm

from amf.errors import DataError
from amf.files import written_whole

MIRROR = "AMF_MIRROR"
"""Environment variable: a server in place of all hosts: https://HOST/PATH becomes $AMF_MIRROR/HOST/PATH."""

STORE = ".fetch"
ATTEMPTS, LONGEST_WAIT_S, TIMEOUT_S, CHUNK = 4, 120.0, 60.0, 1 << 16
LISTED = 20
"""Of what a publisher ships under other names, so many are named in the error."""


@dataclass(frozen=True)
class Remote:
    """One file of a record; size in bytes and checksum ("md5:…") where the repository states them."""

    key: str
    url: str
    size: int | None = None
    checksum: str | None = None


@dataclass(frozen=True)
class Record:
    """What a repository says of a data set. `blobs` are a Git tree's: path → SHA-1 of the blob."""

    title: str
    licence: str
    page: str
    files: tuple[Remote, ...]
    blobs: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files whose size is stated."""
        return sum(file.size or 0 for file in self.files)


@dataclass(frozen=True)
class Dataset:
    """Where a data set is published, and what of it goes where.

    Attributes
    ----------
    origins : each asks a repository for its record.
    places : path below the root that `amf data` reads → path, or the end of one, in what is published.
    """

    origins: tuple[Callable[[], Record], ...]
    places: Mapping[str, str]


@dataclass(frozen=True)
class Fetched:
    """How a data set came to be in its place: `how` in words, and the records (as dictionaries) it is of."""

    name: str
    how: str
    records: list[dict[str, Any]]


def fetch(
    name: str, root: Path, accept: Callable[[Record], bool], names: Mapping[str, str] | None = None
) -> Fetched:
    """Put one data set below `root`; what is there already and right is taken.

    Parameters
    ----------
    accept : is shown the record with its licence before anything is downloaded; False refuses.
    names : as Dataset.places, in place of single ones of them.

    Raises
    ------
    DataError : no such data set; the licence is not accepted; the repository is out of reach, refuses, breaks
        off or sends other bytes than its record says; no space; an archive that would write elsewhere; names
        that are not the expected ones. Everything complete is kept, and the next call continues.
    """
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is unknown, expected one of {', '.join(DATASETS)}")
    dataset = DATASETS[name]
    unknown = set(names or {}) - set(dataset.places)
    if unknown:
        raise DataError(
            f"{name}: {', '.join(sorted(unknown))} is no file that `amf data` reads, expected one of "
            f"{', '.join(dataset.places)}"
        )
    places = {**dataset.places, **(names or {})}
    receipt = root / STORE / f"{name}.json"
    absent = [place for place in places if not (root / place).exists()]
    if receipt.is_file():
        content = json.loads(receipt.read_text(encoding="utf-8"))
        lost = [path for path, size in content["content"].items() if _size(root / path) != size]
        if not lost and not absent:
            return Fetched(name, "there already, as fetched", content["records"])
        for place in {place for place in places for path in lost if _within(path, place)}:
            _remove(root / place)
    elif not absent:
        return Fetched(name, "there already, not put there by `amf fetch` and so unchecked", [])

    records = [origin() for origin in dataset.origins]
    for record in records:
        if not accept(record):
            raise DataError(
                f"{name}: the licence of {record.page} ({record.licence}) has not been accepted: "
                "read it there, then say --accept-licence"
            )
    store = root / STORE / name
    with _disk_full_is_a_sentence(root):
        store.mkdir(parents=True, exist_ok=True)
        for record in records:
            _download(record, store, root)
        placed = _place(name, places, store, root)
        with written_whole(receipt) as partial:
            content = {
                "records": [asdict(record) | {"blobs": len(record.blobs)} for record in records],
                "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
                "placed": placed,
                "content": {
                    path.relative_to(root).as_posix(): path.stat().st_size
                    for place in places
                    for path in _files(root / place)
                },
            }
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(store)
    return Fetched(name, "fetched, checksums as in the record", content["records"])


# ---- records


def zenodo(record_id: int) -> Record:
    """A record of Zenodo, by its number: the last part of its DOI."""
    url = f"https://zenodo.org/api/records/{record_id}"
    content = _json(url)
    with _record_errors(url):
        files = tuple(
            Remote(file["key"], file["links"]["self"], int(file["size"]), str(file["checksum"]))
            for file in content["files"]
        )
        metadata = content["metadata"]
        licence = metadata.get("license", {}).get("id", "none stated")
        return Record(metadata["title"], licence, f"https://zenodo.org/records/{record_id}", files)


def github(repository: str) -> Record:
    """The default branch of a GitHub repository as one archive, with the SHA-1 of each of its files."""
    api = f"https://api.github.com/repos/{repository}"
    about, head = _json(api), _json(f"{api}/commits/HEAD")
    with _record_errors(api):
        commit = head["sha"]
        licence = (about.get("license") or {}).get("spdx_id") or "none stated: see its README"
    tree = _json(f"{api}/git/trees/{commit}?recursive=1")
    with _record_errors(api):
        if tree["truncated"]:
            raise DataError(f"{api}: the list of its files is cut short, so that they cannot be checked")
        blobs = {entry["path"]: entry["sha"] for entry in tree["tree"] if entry["type"] == "blob"}
    archive = Remote(
        f"{repository.split('/')[1]}-{commit}.zip", f"https://codeload.github.com/{repository}/zip/{commit}"
    )
    return Record(repository, licence, f"https://github.com/{repository}/tree/{commit}", (archive,), blobs)


def figshare(collection: int, folder: str) -> Record:
    """All files of all articles of a figshare collection, to go into one folder."""
    api = "https://api.figshare.com/v2"
    about = _json(f"{api}/collections/{collection}")
    articles = _json(f"{api}/collections/{collection}/articles?page_size=1000")
    files, licences = [], set()
    with _record_errors(api):
        for article in articles:
            licences.add(_json(f"{api}/articles/{article['id']}")["license"]["name"])
            for file in _json(f"{api}/articles/{article['id']}/files?page_size=1000"):
                checksum = file["computed_md5"] or file["supplied_md5"]
                key = f"{folder}/{file['name']}"
                files.append(Remote(key, file["download_url"], int(file["size"]), f"md5:{checksum}"))
        return Record(
            about["title"], ", ".join(sorted(licences)), f"https://doi.org/{about['doi']}", tuple(files)
        )


DATASETS: dict[str, Dataset] = {
    # 10.5281/zenodo.16044804: the official training set of MIDOG 2025, Track 2
    "midog25": Dataset(
        (lambda: zenodo(16044804),),
        {
            "MIDOG25_Atypical_Classification_Train_Set.csv": "MIDOG25_Atypical_Classification_Train_Set.csv",
            "MIDOG25_Binary_Classification_Train_Set": "MIDOG25_Binary_Classification_Train_Set",
        },
    ),
    "ami-br": Dataset(
        (lambda: github("DeepMicroscopy/AMi-Br"),), {"AMI-BR.csv": "AMI-BR.csv", "AMi-Br": "patches"}
    ),
    # 10.5281/zenodo.15854453, which also holds stMIDOG++. Its names are published nowhere that we could read.
    "lung-mito": Dataset(
        (lambda: zenodo(15854453),),
        {"LUNG-MITO/labels.csv": "LUNG-MITO/labels.csv", "LUNG-MITO/patches": "LUNG-MITO/patches"},
    ),
    # 10.5281/zenodo.16107743
    "omg-octo": Dataset(
        (lambda: zenodo(16107743),), {"OMG-Octo.csv": "OMG-Octo.csv", "OMG-Octo": "OMG-Octo"}
    ),
    # 10.6084/m9.figshare.c.6615571: the whole regions, 65 GB by its own page; the database is on GitHub
    "midogpp": Dataset(
        (lambda: figshare(6615571, "images"), lambda: github("DeepMicroscopy/MIDOGpp")),
        {"MIDOG++.json": "databases/MIDOG++.json", "images": "images"},
    ),
}


def _json(url: str) -> Any:
    response = _get(url)
    try:
        return response.json()
    except ValueError:
        raise DataError(f"{_host(url)} answered {url} with something that is no JSON") from None


@contextmanager
def _record_errors(url: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{url} is not a record as this repository gave them before: {error!r}") from None


# ---- the network


def at_mirror(url: str) -> str:
    """The address that is asked in place of `url`: itself, or the mirror's."""
    mirror = os.environ.get(MIRROR)
    parts = urlsplit(url)
    if not mirror or url.startswith(mirror):
        return url
    return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _get(url: str, headers: Mapping[str, str] | None = None, stream: bool = False) -> requests.Response:
    """Ask, wait as long as the host says to where that is not long, and ask again."""
    where, fault = at_mirror(url), ""
    for attempt in range(ATTEMPTS):
        try:
            response = requests.get(where, headers=dict(headers or {}), stream=stream, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            fault = (
                f"{_host(url)} is out of reach ({type(error).__name__}): check the network and run this again"
            )
            time.sleep(_pause(attempt))
            continue
        if response.status_code in (429, 503):
            wait = _retry_after(response)
            fault = f"{_host(url)} limits the rate of requests: run this again in {wait:.0f} s"
            response.close()
            if wait > LONGEST_WAIT_S:
                break
            time.sleep(max(wait, _pause(attempt)))
            continue
        if response.status_code not in (200, 206):
            raise DataError(f"{_host(url)} answered {url} with {response.status_code} {response.reason}")
        return response
    raise DataError(fault)


def _pause(attempt: int) -> float:
    return 0.2 * 4.0**attempt  # 0.2, 0.8, 3, 13 s


def _retry_after(response: requests.Response) -> float:
    """Seconds: a header may give them, a date, or (Zenodo) the second since 1970 at which a window opens."""
    stated, reset = response.headers.get("Retry-After", ""), response.headers.get("X-RateLimit-Reset", "")
    if stated.isdigit():
        return float(stated)
    if stated:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(stated).timestamp() - time.time())
        except ValueError:
            return 60.0
    return max(0.0, float(reset) - time.time()) if reset.isdigit() else 60.0


def _download(record: Record, store: Path, root: Path) -> None:
    """All files of a record into `store/tree`, archives unpacked there."""
    tree = store / "tree"
    missing = [file for file in record.files if not _done(file, tree)]
    needed = sum(
        (file.size or 0) * (2 if _is_archive(file) else 1) - _size(_part(file, store)) for file in missing
    )
    _ask_for(needed, root)
    for number, file in enumerate(missing, start=1):
        by_hand = root / file.key
        if _is_right(by_hand, file):
            path = by_hand
        else:
            label = f"{file.key} ({number} of {len(missing)})" if len(missing) > 1 else file.key
            path = _retrieve(file, store, label)
        if not _is_archive(file):
            target = tree / file.key
            target.parent.mkdir(parents=True, exist_ok=True)
            if path == by_hand:
                shutil.copyfile(path, target)
            else:
                path.replace(target)
            continue
        try:
            unpack(path, tree / _unpacked_name(file))
            if record.blobs:
                _check_blobs(file, tree / _unpacked_name(file), record.blobs)
        except DataError:
            if file.checksum is None:  # only now is it known that what arrived is not what was published
                path.unlink()
            raise
        if path != by_hand:
            path.unlink()


def _retrieve(file: Remote, store: Path, label: str) -> Path:
    """Download a file through pooch, which checks it; what is half there is continued."""
    pooch.get_logger().setLevel("WARNING")
    try:
        path = pooch.retrieve(
            file.url,
            known_hash=file.checksum,
            fname=PurePosixPath(file.key).name,
            path=store / "whole",
            downloader=_Resumed(file, _part(file, store), label),
        )
    except ValueError:  # pooch's word for a checksum that differs; its copy is gone
        raise DataError(
            f"{file.key} from {_host(file.url)} has not the checksum of its record ({file.checksum}): "
            "nothing of it is kept, run this again"
        ) from None
    return Path(path)


class _Resumed:
    """A pooch downloader that keeps what has arrived when a connection breaks, and asks for the rest."""

    def __init__(self, file: Remote, part: Path, label: str) -> None:
        self.file, self.part, self.label = file, part, label

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        with tqdm(total=self.file.size, unit="B", unit_scale=True, desc=self.label) as progress:
            for attempt in range(ATTEMPTS):
                before = _size(self.part)
                try:
                    self._rest(url, before, progress)
                except (requests.RequestException, EOFError):
                    # A connection that brought something may bring more; one that brings nothing is given up.
                    if attempt == ATTEMPTS - 1 or _size(self.part) <= before:
                        of = f" of {self.file.size:,}" if self.file.size else ""
                        raise DataError(
                            f"{_host(url)} broke off {self.file.key} after {_size(self.part):,}{of} bytes: "
                            "run this again, it continues there"
                        ) from None
                    time.sleep(_pause(attempt))
                else:
                    break
        Path(self.part).replace(output_file)

    def _rest(self, url: str, start: int, progress: Any) -> None:
        size = self.file.size
        if size is None or start > size:
            start = 0
        if size is None or start < size:
            response = _get(url, {"Range": f"bytes={start}-"} if start else None, stream=True)
            continued = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
            start = start if continued and int(continued[1]) == start else 0
            progress.update(start - progress.n)
            with response, self.part.open("r+b" if start else "wb") as output:
                output.seek(start)
                for chunk in response.iter_content(CHUNK):
                    output.write(chunk)
                    progress.update(len(chunk))
                output.truncate()
        if size is not None and self.part.stat().st_size < size:
            raise EOFError


def _part(file: Remote, store: Path) -> Path:
    """What has arrived of a file; another version of it has another name."""
    version = hashlib.sha256(f"{file.checksum} {file.size} {file.url}".encode()).hexdigest()[:12]
    return store / f"{quote(file.key, safe='')}.{version}.part"


def _done(file: Remote, tree: Path) -> bool:
    if _is_archive(file):
        return (tree / _unpacked_name(file)).is_dir()
    return _size(tree / file.key) == file.size


def _is_archive(file: Remote) -> bool:
    return file.key.lower().endswith(".zip")


def _unpacked_name(file: Remote) -> str:
    return file.key[: -len(".zip")]


def _is_right(path: Path, file: Remote) -> bool:
    if file.checksum is None or _size(path) != file.size:
        return False
    algorithm, _, expected = file.checksum.rpartition(":")
    return str(pooch.file_hash(str(path), alg=algorithm or "md5")) == expected


# ---- archives and places


def unpack(archive: Path, target: Path) -> None:
    """Unpack a ZIP file into a new folder, which appears whole or not at all.

    A folder that holds everything else in the archive is left out of the paths.

    Raises
    ------
    DataError : no readable ZIP file, a member that would lie outside the folder or is a link, or no space.
    """
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as content:
            members = [
                m for m in content.infolist() if not m.filename.startswith("__MACOSX/") and not m.is_dir()
            ]
            for member in members:
                _refuse_unsafe(archive, member)
            _ask_for(sum(member.file_size for member in members), archive.parent)
            for member in tqdm(members, desc=f"unpacking {archive.name}", unit="file"):
                content.extract(member, partial)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise DataError(f"{archive.name} is not a readable ZIP file: {error}") from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if not partial.is_dir():
        raise DataError(f"{archive.name} is a ZIP file without files")
    inner = list(partial.iterdir())
    target.parent.mkdir(parents=True, exist_ok=True)
    if len(inner) == 1 and inner[0].is_dir():
        inner[0].rename(target)
        partial.rmdir()
    else:
        partial.rename(target)


def _refuse_unsafe(archive: Path, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename.replace("\\", "/"))
    outside = path.is_absolute() or ".." in path.parts or ":" in path.parts[0]
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        raise DataError(
            f"{archive.name} holds {member.filename!r}, which would lie outside its folder: "
            "nothing is unpacked"
        )


def _check_blobs(file: Remote, folder: Path, blobs: Mapping[str, str]) -> None:
    """Compare what was unpacked with the Git tree that it is of."""
    for path in _files(folder):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if blobs.get(name) != found:
            shutil.rmtree(folder)
            raise DataError(
                f"{file.key} from {_host(file.url)}: {name} has not the checksum of its "
                "repository's record: nothing of it is kept, run this again"
            )


def _place(name: str, places: Mapping[str, str], store: Path, root: Path) -> dict[str, str]:
    """Move what is published to where `amf data` reads it; returns place → published path."""
    tree = store / "tree"
    absent = [place for place in places if not (root / place).exists()]
    found = {place: _find(tree, places[place]) for place in absent}
    unknown = [place for place, path in found.items() if path is None]
    if unknown:
        raise DataError(
            f"{name}: nothing that was published is called {' or '.join(places[p] for p in unknown)}; found "
            f"{_listing(tree)}: name it in the recipe's fetch section, as {name}: {{{unknown[0]}: …}}"
        )
    placed = {}
    for place, path in sorted(found.items(), key=lambda item: -len(PurePosixPath(str(item[1])).parts)):
        assert path is not None
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        path.rename(root / place)
        placed[place] = path.relative_to(tree).as_posix()
    return placed


def _find(tree: Path, published: str) -> Path | None:
    """The one path whose end is `published`, whatever its case; of several, the one highest up."""
    wanted = PurePosixPath(published.lower()).parts
    matches = [
        path
        for path in tree.rglob("*")
        if PurePosixPath(path.relative_to(tree).as_posix().lower()).parts[-len(wanted) :] == wanted
    ]
    matches.sort(key=lambda path: len(path.parts))
    if not matches or (len(matches) > 1 and len(matches[0].parts) == len(matches[1].parts)):
        return None
    return matches[0]


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


# ---- the disk


def _ask_for(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(f"{folder} has {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB are needed")


@contextmanager
def _disk_full_is_a_sentence(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"{error.filename or root} cannot be written: {error.strerror or error}"
            ) from error
        raise DataError(f"{root} is full: make room and run this again, it continues") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())


def _within(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
