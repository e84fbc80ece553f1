"""`amf fetch` against a loopback server that plays the data repositories, their faults included."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import pooch
import pytest

from amf.cli import main
from amf.data import fetch, repositories
from amf.data.repositories import MIRROR
from amf.data.sources import SOURCES
from test.support.fixtures import Capture, Patch
from test.support.loopback import Answer, Server, serve
from test.support.publishers import COMMIT, MIDOG25, publish_all, zipped

ZIP = f"/zenodo.org/api/records/{MIDOG25}/files/MIDOG25_Binary_Classification_Train_Set.zip/content"
RECORD = f"/zenodo.org/api/records/{MIDOG25}"
PATCHES = "MIDOG25_Binary_Classification_Train_Set"
LUNG_NAMES = ["--name=LUNG-MITO/labels.csv=annotations.csv", "--name=LUNG-MITO/patches=crops"]


@pytest.fixture(scope="module")
def published() -> Server:
    """Every publisher's files, drawn once."""
    server = Server()
    publish_all(server)
    return server


@pytest.fixture
def server(published: Server, monkeypatch: Patch) -> Iterator[Server]:
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        running.routes |= published.routes
        monkeypatch.setenv(MIRROR, running.url)
        yield running


def fetched(root: Path, *names: str) -> int:
    return main(["fetch", *names, "--root", str(root), "--accept-licence"])


def refused(capsys: Capture, root: Path, *names: str) -> str:
    """The one sentence of a fetch that fails; nothing is half-written."""
    capsys.readouterr()
    assert fetched(root, *names) == 2
    assert not list(root.rglob("*.partial"))
    assert not (root / PATCHES).exists()
    return capsys.readouterr().err.splitlines()[-1]


def body(server: Server, path: str) -> bytes:
    answer = server.routes[path]
    assert isinstance(answer, Answer)
    return answer.body


def test_every_data_set_lands_where_amf_data_reads_it(server: Server, tmp_path: Path) -> None:
    assert fetched(tmp_path, "midog25", "ami-br", "lung-mito", "omg-octo", "midogpp", *LUNG_NAMES) == 0
    columns = {"image": "file", "label": "class", "slide": "case"}
    lung = {"dataset": "LUNG-MITO", "labels": "LUNG-MITO/labels.csv", "patches": "LUNG-MITO/patches"}
    figures = {}
    for name in ("midog25", "amibr", "generic", "omg_octo", "midogpp"):
        settings = {**lung, "columns": columns} if name == "generic" else {}
        table = SOURCES[name](**settings).read(tmp_path).table
        figures[name] = len(table)
        assert all((tmp_path / image.split("#")[0]).is_file() for image in table["image"])
    assert figures == {"midog25": 72, "amibr": 48, "generic": 24, "omg_octo": 12, "midogpp": 72}
    assert not list((tmp_path / fetch.STORE).iterdir()), "archives are gone once all is in its place"


def test_what_is_there_is_taken_without_the_network(server: Server, tmp_path: Path, capsys: Capture) -> None:
    store = tmp_path / fetch.STORE / "midog25"
    store.mkdir(parents=True)
    (store / f"{PATCHES}.zip").write_bytes(body(server, ZIP))
    assert fetched(tmp_path, "midog25") == 0
    assert ZIP not in server.log, "an archive put there by hand has the record's checksum"
    assert "licence: cc-by-4.0" in capsys.readouterr().out
    server.log.clear()
    assert fetched(tmp_path, "midog25") == 0
    assert server.log == []
    assert "midog25: there already" in capsys.readouterr().out


def test_broken_connections_and_busy_hosts_are_tried_again(server: Server, tmp_path: Path) -> None:
    content = body(server, ZIP)
    server.once[ZIP] = [Answer(content, cut=65_536), Answer(b"", 503), Answer(content[:-1])]
    server.once[RECORD] = [Answer(b"", 429)]
    assert fetched(tmp_path, "midog25") == 0
    assert server.log.count(ZIP) == 4
    assert (tmp_path / PATCHES / "72.png").is_file()


@pytest.mark.parametrize(
    ("name", "path", "answer", "message"),
    [
        ("midog25", ZIP, Answer(b"other bytes"), "from zenodo.org has not the checksum of its record (md5:"),
        ("midog25", ZIP, Answer(b"x" * 99, cut=9), "zenodo.org is out of reach or broke off (Chunked"),
        ("midog25", ZIP, Answer(b"", 403), "Train_Set.zip/content with 403, expected"),
        ("midog25", RECORD, Answer(b"<html>"), "something that is no JSON"),
        ("midog25", RECORD, Answer(b"{}"), "the repository gives no such record as it did before: KeyError"),
        (
            "ami-br",
            f"/codeload.github.com/DeepMicroscopy/AMi-Br/zip/{COMMIT}",
            Answer(zipped({f"AMi-Br-{COMMIT}/AMI-BR.csv": b"other\n"})),
            "AMi-Br.zip from codeload.github.com is damaged: AMI-BR.csv is not as in its repository's record",
        ),
    ],
)  # fmt: skip
def test_a_fault_that_stays_is_one_sentence_and_the_next_run_goes_on(
    server: Server, tmp_path: Path, capsys: Capture, name: str, path: str, answer: Answer, message: str
) -> None:
    server.once[path] = [answer] * (fetch.RETRIES + 1)
    assert message in refused(capsys, tmp_path, name)
    assert not list(tmp_path.rglob("*.zip"))
    server.once.clear()
    assert fetched(tmp_path, name) == 0


def test_a_host_out_of_reach_is_one_sentence(tmp_path: Path, capsys: Capture, monkeypatch: Patch) -> None:
    monkeypatch.setattr(repositories, "RETRIES", 0)
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "zenodo.org is out of reach" in refused(capsys, tmp_path, "midog25")


def test_a_full_disk_is_one_sentence_before_and_while_it_fills(
    server: Server, tmp_path: Path, capsys: Capture, monkeypatch: Patch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=1000))
        assert "GB free, 0.0 GB are needed" in refused(capsys, tmp_path, "midog25")
    assert ZIP not in server.log
    with monkeypatch.context() as patched:
        patched.setattr(fetch.zipfile.ZipFile, "extractall", full)
        assert f"{tmp_path} is full: make room and run this again" in refused(capsys, tmp_path, "midog25")
    server.log.clear()
    assert fetched(tmp_path, "midog25") == 0
    assert ZIP not in server.log, "what is whole is kept"


def test_other_names_are_listed_and_a_mapping_cures_them_without_another_download(
    server: Server, tmp_path: Path, capsys: Capture
) -> None:
    sentence = refused(capsys, tmp_path, "lung-mito")
    for part in (
        "nothing that was published is called LUNG-MITO/labels.csv or LUNG-MITO/patches",
        "found LUNG-MITO/annotations.csv, LUNG-MITO/crops/*.png (24 files), stMIDOG++/readme.txt",
        "say --name LUNG-MITO/labels.csv=PUBLISHED",
    ):
        assert part in sentence
    server.log.clear()
    assert fetched(tmp_path, "lung-mito", *LUNG_NAMES) == 0
    assert not [path for path in server.log if path.endswith("/content")]


def test_a_licence_is_accepted_by_word_only(server: Server, tmp_path: Path, capsys: Capture) -> None:
    assert main(["fetch", "midog25", "--root", str(tmp_path)]) == 2  # no terminal here
    expected = "licence of https://zenodo.org/records/16044804 (cc-by-4.0) has not been accepted"
    assert expected in capsys.readouterr().err
    assert ZIP not in server.log
    assert not list(tmp_path.iterdir())


def test_an_archive_writes_nowhere_else(server: Server, tmp_path: Path) -> None:
    path = f"/codeload.github.com/DeepMicroscopy/AMi-Br/zip/{COMMIT}"
    server.once[path] = [Answer(zipped({"../../../outside.png": b"1"}))]
    root = tmp_path / "a" / "root"
    assert fetched(root, "ami-br") == 2
    assert not list(tmp_path.rglob("outside.png"))


def test_what_amf_fetch_does_not_know_is_named(server: Server, tmp_path: Path, capsys: Capture) -> None:
    for given, message in [
        (["midog21"], "data set 'midog21' is unknown, expected one of midog25, ami-br"),
        (["midog25", "--name=x.csv=y.csv"], "--name names 'x.csv', expected one of MIDOG25"),
        (["midog25", "--name=x.csv"], "--name is 'x.csv'"),
    ]:
        assert message in refused(capsys, tmp_path, *given)
