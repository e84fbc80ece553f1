"""Where the published data sets are, and what their repositories say of them: files, checksums, licence."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from amf.errors import DataError

MIRROR = "AMF_MIRROR"
"""Environment variable: a server in place of all hosts: https://HOST/PATH becomes $AMF_MIRROR/HOST/PATH."""

RETRIES, TIMEOUT_S = 4, 60.0


@dataclass(frozen=True)
class Record:
    """What a repository says of a data set.

    Attributes
    ----------
    size : bytes of all files whose size is stated.
    urls : file → where it is; checksums : file → "md5:…" where one is stated.
    blobs : of a Git tree: path → SHA-1 of the blob.
    """

    title: str
    licence: str
    page: str
    size: int
    urls: Mapping[str, str]
    checksums: Mapping[str, str] = field(default_factory=dict)
    blobs: Mapping[str, str] = field(default_factory=dict)


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

    def records(self) -> list[Record]:
        """Ask the repositories; raises DataError where one does not answer, or not as it did before."""
        try:
            return [origin() for origin in self.origins]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the repository gives no such record as it did before: {error!r}") from error


def zenodo(record_id: int) -> Record:
    """A record of Zenodo, by its number: the last part of its DOI."""
    content = _json(f"https://zenodo.org/api/records/{record_id}")
    metadata, files = content["metadata"], content["files"]
    return Record(
        metadata["title"],
        metadata.get("license", {}).get("id", "none stated"),
        f"https://zenodo.org/records/{record_id}",
        sum(int(file["size"]) for file in files),
        {file["key"]: file["links"]["self"] for file in files},
        {file["key"]: file["checksum"] for file in files},
    )


def github(repository: str) -> Record:
    """The default branch of a GitHub repository as one archive, with the SHA-1 of each of its files.

    Raises DataError where the list of files is cut short.
    """
    api = f"https://api.github.com/repos/{repository}"
    about, commit = _json(api), _json(f"{api}/commits/HEAD")["sha"]
    tree = _json(f"{api}/git/trees/{commit}?recursive=1")
    if tree["truncated"]:
        raise DataError(f"{api}: the list of its files is cut short, so that they cannot be checked")
    return Record(
        repository,
        (about.get("license") or {}).get("spdx_id") or "none stated: see its README",
        f"https://github.com/{repository}/tree/{commit}",
        sum(entry.get("size", 0) for entry in tree["tree"]),
        {f"{repository.split('/')[1]}.zip": f"https://codeload.github.com/{repository}/zip/{commit}"},
        blobs={entry["path"]: entry["sha"] for entry in tree["tree"] if entry["type"] == "blob"},
    )


def figshare(collection: int, folder: str) -> Record:
    """All files of all articles of a figshare collection, to go into one folder."""
    api = "https://api.figshare.com/v2"
    about = _json(f"{api}/collections/{collection}")
    articles = _json(f"{api}/collections/{collection}/articles?page_size=1000")
    licences = {_json(f"{api}/articles/{article['id']}")["license"]["name"] for article in articles}
    files = [
        file for article in articles for file in _json(f"{api}/articles/{article['id']}/files?page_size=1000")
    ]
    return Record(
        about["title"],
        ", ".join(sorted(licences)),
        f"https://doi.org/{about['doi']}",
        sum(int(file["size"]) for file in files),
        {f"{folder}/{file['name']}": file["download_url"] for file in files},
        {f"{folder}/{file['name']}": f"md5:{file['computed_md5'] or file['supplied_md5']}" for file in files},
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


def dataset(name: str) -> Dataset:
    """The data set of that name; raises DataError where there is none."""
    if name not in DATASETS:
        raise DataError(f"data set {name!r} is unknown, expected one of {', '.join(DATASETS)}")
    return DATASETS[name]


def _json(url: str) -> Any:
    wait = Retry(RETRIES, backoff_factor=0.5, status_forcelist=(429, 503), respect_retry_after_header=False)
    with requests.Session() as session, network_faults(url):
        session.mount("http://", HTTPAdapter(max_retries=wait))
        session.mount("https://", HTTPAdapter(max_retries=wait))
        answer = session.get(at_mirror(url), timeout=TIMEOUT_S)
        answer.raise_for_status()
        return answer.json()


def at_mirror(url: str) -> str:
    """The address that is asked in place of `url`: itself, or the mirror's."""
    mirror, parts = os.environ.get(MIRROR), urlsplit(url)
    if not mirror or url.startswith(mirror):
        return url
    return f"{mirror.rstrip('/')}/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")


@contextmanager
def network_faults(url: str) -> Iterator[None]:
    """Turn what goes wrong while `url` is read into DataError."""
    host = urlsplit(url).netloc
    try:
        yield
    except requests.HTTPError as error:
        found = getattr(error.response, "status_code", error)
        raise DataError(f"{host} answered {url} with {found}, expected a file or a record") from error
    except requests.JSONDecodeError as error:
        raise DataError(f"{host} answered {url} with something that is no JSON") from error
    except requests.RequestException as error:
        found = f"({type(error).__name__})"
        raise DataError(f"{host} is out of reach or broke off {found}: run this again, it goes on") from error
