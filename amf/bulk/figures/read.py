"""Read the figures of a slide: a file is told by its content, and its kind's reader takes it."""

import gzip
import json
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from amf.bulk.figures.boxes import read_boxes
from amf.bulk.figures.databases import read_database
from amf.bulk.figures.features import read_features
from amf.bulk.figures.given import GivenFigures, Wanted
from amf.bulk.figures.store import is_store, read_store
from amf.bulk.figures.tables import read_table
from amf.data.loading import read_json
from amf.errors import DataError

EXPECTED = "QuPath's GeoJSON, MIDOG's or COCO's JSON, a database of SlideRunner or TIAToolbox, or a table"


def read_figures(path: Path, wanted: Wanted) -> GivenFigures:
    """Read the figures of a slide from a file that may hold those of others, too.

    Raises
    ------
    DataError : no such file, of no known kind, it knows other slides only, or it holds no figure and nothing
        that is refused.
    """
    given = _read(path, wanted)
    if not given.figures:
        remedy = ": --class NAME takes another class" if any(given.passed_over) else ""
        raise DataError(f"{given.summary(path)}; expected some{remedy}")
    places = [place for figure in given.figures if not figure.fault for place in (figure.x, figure.y)]
    if len(places) > 2 and min(places) >= 0 and max(places) <= 1 and not all(map(float.is_integer, places)):
        raise DataError(
            f"{path} has all figures between (0, 0) and (1, 1): expected px, not shares of the image"
        )
    return given


def read_any_json(path: Path) -> Any:
    """The JSON of a file, plain, gzipped or the only one in a zip; None where it is of another kind.

    Raises
    ------
    DataError : no such file, or it is packed or JSON and cannot be read.
    """
    start = _start(path)
    if start.startswith((b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06")):
        return _unpacked(path, gzipped=start.startswith(b"\x1f"))
    return read_json(path) if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") else None


def _read(path: Path, wanted: Wanted) -> GivenFigures:
    start = _start(path)
    if start.startswith(b"SQLite format 3\0"):
        return read_store(path, wanted) if is_store(path) else read_database(path, wanted)
    content = read_any_json(path)
    if content is None:
        return read_table(path, wanted, parquet=start.startswith(b"PAR1"))
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return read_boxes(path, content, wanted)
    return read_features(path, content, wanted)


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _unpacked(path: Path, gzipped: bool) -> Any:
    """The JSON inside a gzipped file, or inside a zip that holds a single one."""
    try:
        if gzipped:
            with gzip.open(path) as file:
                return json.load(file)
        with zipfile.ZipFile(path) as archive:
            hidden = ("__MACOSX/", ".")
            names = [
                name for name in archive.namelist() if not name.startswith(hidden) and not name.endswith("/")
            ]
            suffixes = {PurePosixPath(name).suffix.lower() for name in names}
            if len(names) != 1 or not suffixes <= {".json", ".geojson"}:
                some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
                raise DataError(
                    f"{path} holds {some or 'no file'}; expected one GeoJSON file: unpack it and name the "
                    "one that is meant"
                )
            return json.loads(archive.read(names[0]))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} holds no JSON once unpacked, expected {EXPECTED}: {error}") from error
    except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be unpacked: {error}") from error
