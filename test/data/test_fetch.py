"""`amf fetch` against a loopback server that plays the data repositories, their faults included."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from amf.cli import main
from amf.data import fetch
from amf.data.fetch import MIRROR, STORE, unpack
from amf.data.sources import SOURCES
from amf.errors import DataError
from test.support.loopback import Answer, Server, serve
from test.support.publishers import COMMIT, MIDOG25, publish_all, zipped

ZIP = f"/zenodo.org/api/records/{MIDOG25}/files/MIDOG25_Binary_Classification_Train_Set.zip/content"
RECORD = f"/zenodo.org/api/records/{MIDOG25}"
TABLE = "MIDOG25_Atypical_Classification_Train_Set.csv"
PATCHES = "MIDOG25_Binary_Classification_Train_Set"
LUNG_NAMES = ["--name=LUNG-MITO/labels.csv=annotations.csv", "--name=LUNG-MITO/patches=crops"]


@pytest.fixture(scope="module")
def published() -> Server:
    """Every publisher's files, drawn once."""
    server = Server()
    publish_all(server)
    return server


@pytest.fixture
def server(published: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "_pause", lambda attempt: 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as running:
        running.routes |= published.routes
        monkeypatch.setenv(MIRROR, running.url)
        yield running


def fetched(root: Path, *names: str) -> int:
    return main(["fetch", *names, "--root", str(root), "--accept-licence"])


def refused(capsys: pytest.CaptureFixture[str], root: Path, *names: str) -> str:
    """The one sentence of a fetch that fails, and what it leaves: no place that is not whole."""
    capsys.readouterr()
    assert fetched(root, *names) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert not [path for path in root.rglob("*") if path.name.endswith(".partial")]
    return sentence


def body(server: Server, path: str) -> bytes:
    answer = server.routes[path]
    assert isinstance(answer, Answer)
    return answer.body


def test_every_data_set_lands_where_amf_data_reads_it(server: Server, tmp_path: Path) -> None:
    assert fetched(tmp_path, "midog25", "ami-br", "lung-mito", "omg-octo", "midogpp", *LUNG_NAMES) == 0
    columns = {"image": "file", "label": "class", "slide": "case"}
    lung = {
        "dataset": "LUNG-MITO",
        "labels": "LUNG-MITO/labels.csv",
        "patches": "LUNG-MITO/patches",
        "columns": columns,
        "spellings": {"typical": 0, "atypical": 1},
    }
    figures = {}
    for name, settings in [
        ("midog25", {}),
        ("amibr", {}),
        ("generic", lung),
        ("omg_octo", {}),
        ("midogpp", {}),
    ]:
        table = SOURCES[name](**settings).read(tmp_path).table
        figures[name] = len(table)
        assert all((tmp_path / image.split("#")[0]).is_file() for image in table["image"])
    assert figures == {"midog25": 72, "amibr": 48, "generic": 24, "omg_octo": 12, "midogpp": 72}
    assert sorted(path.name for path in (tmp_path / STORE).iterdir()) == [
        "ami-br.json", "lung-mito.json", "midog25.json", "midogpp.json", "omg-octo.json",
    ]  # fmt: skip
    receipt = json.loads((tmp_path / STORE / "ami-br.json").read_text())
    assert receipt["records"][0]["page"] == f"https://github.com/DeepMicroscopy/AMi-Br/tree/{COMMIT}"
    assert receipt["placed"] == {
        "AMI-BR.csv": f"AMi-Br-{COMMIT}/AMI-BR.csv",
        "AMi-Br": f"AMi-Br-{COMMIT}/patches",
    }


def test_what_is_there_and_right_is_taken_without_the_network(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetched(tmp_path, "midog25") == 0
    assert "licence: cc-by-4.0" in capsys.readouterr().out
    server.log.clear()
    assert fetched(tmp_path, "midog25") == 0
    assert server.log == []
    assert "there already, as fetched" in capsys.readouterr().out
    (tmp_path / PATCHES / "1.png").write_bytes(b"short")
    assert fetched(tmp_path, "midog25") == 0
    assert server.asked(ZIP) == [None]
    assert (tmp_path / PATCHES / "1.png").stat().st_size > 100


def test_files_that_lie_there_by_hand_are_taken(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{PATCHES}.zip").write_bytes(body(server, ZIP))
    assert fetched(tmp_path, "midog25") == 0
    assert server.asked(ZIP) == []
    shutil.rmtree(tmp_path / STORE)
    server.log.clear()
    assert fetched(tmp_path, "midog25") == 0
    assert server.log == []


def test_a_cut_connection_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    content = body(server, ZIP)
    server.once[ZIP] = [
        Answer(content, cut=131_072),
        Answer(
            content[131_072:],
            206,
            {"Content-Range": f"bytes 131072-{len(content) - 1}/{len(content)}"},
            cut=65_536,
        ),
    ]
    assert fetched(tmp_path, "midog25") == 0
    assert server.asked(ZIP) == [None, "bytes=131072-", "bytes=196608-"]
    assert (tmp_path / PATCHES / "72.png").is_file()


def test_a_connection_that_stays_cut_is_one_sentence_and_the_next_run_continues(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = body(server, ZIP)
    server.once[ZIP] = [
        Answer(content, cut=65_536),
        *[Answer(b"", 206, {"Content-Range": "bytes 65536-65536/1"})] * 5,
    ]
    sentence = refused(capsys, tmp_path, "midog25")
    assert (
        f"zenodo.org broke off {PATCHES}.zip after 65,536 of {len(content):,} bytes: run this again"
        in sentence
    )
    server.once.clear()
    assert fetched(tmp_path, "midog25") == 0
    assert server.asked(ZIP)[-1] == "bytes=65536-"


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    content = body(server, ZIP)
    server.once[ZIP] = [Answer(content, cut=65_536)]
    server.routes[ZIP] = Answer(content, ranges=False)
    assert fetched(tmp_path, "midog25") == 0
    assert (tmp_path / PATCHES / "72.png").is_file()


def test_a_wrong_checksum_keeps_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(body(server, ZIP))
    content[5_000] ^= 1
    server.once[ZIP] = [Answer(bytes(content))]
    sentence = refused(capsys, tmp_path, "midog25")
    assert f"{PATCHES}.zip from zenodo.org has not the checksum of its record (md5:" in sentence
    assert not list(tmp_path.rglob("*.zip*"))
    assert fetched(tmp_path, "midog25") == 0
    assert server.asked(ZIP) == [None, None]


def test_a_file_of_another_commit_is_refused(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"/codeload.github.com/DeepMicroscopy/AMi-Br/zip/{COMMIT}"
    server.once[path] = [Answer(zipped({f"AMi-Br-{COMMIT}/AMI-BR.csv": b"other\n"}))]
    assert "AMI-BR.csv has not the checksum of its repository's record" in refused(capsys, tmp_path, "ami-br")
    assert fetched(tmp_path, "ami-br") == 0


def test_a_rate_limit_is_waited_for_or_said(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", lambda s: waits.append(s) if s > 0.5 else None)
    server.once[RECORD] = [Answer(b"", 429, {"Retry-After": "7"}), Answer(b"", 503, {"Retry-After": "9"})]
    assert fetched(tmp_path, "midog25") == 0
    assert waits == [7, 9]
    server.once["/zenodo.org/api/records/16107743"] = [Answer(b"", 429, {"Retry-After": "3600"})]
    assert "zenodo.org limits the rate of requests: run this again in 3600 s" in refused(
        capsys, tmp_path, "omg-octo"
    )


def test_a_host_out_of_reach_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_pause", lambda attempt: 0.0)
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "zenodo.org is out of reach (ConnectionError): check the network" in refused(
        capsys, tmp_path, "midog25"
    )


def test_space_is_asked_for_before_anything_is_downloaded(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert "GB free, 0.0 GB are needed" in refused(capsys, tmp_path, "midog25")
    assert server.asked(ZIP) == []


def test_a_disk_that_fills_up_is_one_sentence(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(fetch.errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(fetch.zipfile.ZipFile, "extract", full)
        assert f"{tmp_path} is full: make room and run this again" in refused(capsys, tmp_path, "midog25")
    server.log.clear()
    assert fetched(tmp_path, "midog25") == 0


def test_other_names_are_listed_and_a_mapping_cures_them_without_another_download(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = refused(capsys, tmp_path, "lung-mito")
    assert "nothing that was published is called LUNG-MITO/labels.csv or LUNG-MITO/patches" in sentence
    assert (
        "found LUNG-MITO/annotations.csv, LUNG-MITO/crops/*.png (24 files), stMIDOG++/readme.txt" in sentence
    )
    server.log.clear()
    assert fetched(tmp_path, "lung-mito", *LUNG_NAMES) == 0
    assert not [path for _, path, _ in server.log if path.endswith("/content")]
    assert len(list((tmp_path / "LUNG-MITO" / "patches").iterdir())) == 24


def test_a_licence_is_accepted_by_word_only(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "midog25", "--root", str(tmp_path)]) == 2  # no terminal here
    assert (
        "licence of https://zenodo.org/records/16044804 (cc-by-4.0) has not been accepted"
        in capsys.readouterr().err
    )
    assert server.asked(ZIP) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "/etc/outside.png", "a/../../outside.png", "..\\outside.png", "C:\\outside.png"],
)
def test_an_archive_that_would_write_elsewhere_is_refused_whole(tmp_path: Path, name: str) -> None:
    (tmp_path / "slip.zip").write_bytes(zipped({"inside.png": b"1", name: b"2"}))
    with pytest.raises(DataError, match="would lie outside its folder: nothing is unpacked"):
        unpack(tmp_path / "slip.zip", tmp_path / "in" / "slip")
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == []


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    content = bytearray(zipped({"a/1.png": b"x" * 5000, "a/2.png": b"y" * 5000}))
    content[6_000] ^= 1
    (tmp_path / "bad.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.zip is not a readable ZIP file"):
        unpack(tmp_path / "bad.zip", tmp_path / "bad")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_what_amf_fetch_does_not_know_is_named(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "data set 'midog21' is unknown, expected one of midog25, ami-br" in refused(
        capsys, tmp_path, "midog21"
    )
    assert "--name gives x.csv" in refused(capsys, tmp_path, "midog25", "--name=x.csv=y.csv")
    assert "--name is 'x.csv'" in refused(capsys, tmp_path, "midog25", "--name=x.csv")
