"""Shares of the work, each in a process of its own, and one output from all of them."""

import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from amf.bulk.parts import read_part
from amf.bulk.shares import Share, share_named
from amf.cli import main as amf
from amf.errors import DataError
from test.support.fixtures import Capture, Make, Patch
from test.support.paths import ROOT

pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture
def command(folder: Path, make_bundle: Make) -> list[str]:
    return ["predict", str(folder), "--model", str(make_bundle()), "--output"]


@pytest.fixture
def whole(command: list[str], tmp_path: Path) -> bytes:
    """The table of one process."""
    assert amf([*command, str(tmp_path / "whole.csv")]) == 0
    return (tmp_path / "whole.csv").read_bytes()


def score(command: list[str], output: Path, *shares: str) -> list[str]:
    """Score shares of an output; their parts."""
    for share in shares:
        assert amf([*command, str(output), "--shard", share]) == 0
    return [str(share_named(share).part(output)) for share in shares]


@pytest.mark.parametrize("count", [1, 3, 9])  # 22 files are 6 chunks: some of nine shares have none
def test_joined_shares_are_the_table_of_one_process(
    command: list[str], whole: bytes, tmp_path: Path, count: int
) -> None:
    given = score(command, tmp_path / "p.csv", *(f"{number}/{count}" for number in range(count, 0, -1)))
    assert not (tmp_path / "p.csv").exists()
    assert sorted(path.name for path in tmp_path.glob("*.part")) == sorted(Path(p).name for p in given)
    assert amf(["join", *given, "--output", str(tmp_path / "joined.csv")]) == 0
    assert (tmp_path / "joined.csv").read_bytes() == whole
    assert all(Path(part).exists() for part in given)


def test_what_does_not_belong_together_is_not_joined(
    command: list[str], folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    first, third = score(command, tmp_path / "p.csv", "1/3", "3/3")
    (other,) = score([*command[:1], str(folder / "sub"), *command[2:]], tmp_path / "o.csv", "2/3")
    (half,) = score(command, tmp_path / "h.csv", "2/2")
    cut = tmp_path / "cut.part"
    cut.write_bytes(Path(third).read_bytes()[:-2])
    for given, message in [
        ([first, third], "share 2/3 is missing: score it with --shard 2/3"),
        ([first, other, third], f"{other}, share 2/3, was begun with other inputs, or by another version"),
        ([first, half, third], f"{half} is share 2/2, but {first} is share 1/3"),
        ([first, first, third], "are both share 1/3, expected each once"),
        ([first, str(cut)], f"{cut}, share 3/3, lacks 1 chunks"),
        ([first, str(tmp_path / "none.part")], "none.part is no part of `--shard`, or not there"),
        ([str(folder / "00.png")], "00.png is no part of `--shard`, or not there"),
    ]:
        assert amf(["join", *given, "--output", str(tmp_path / "joined.csv")]) == 2
        assert message in capsys.readouterr().err, given
    (alone,) = score(command, tmp_path / "a.csv", "1/1")
    for name, message in [("j.geojson", "unsupported output suffix"), ("a.csv", "exists already")]:
        (tmp_path / "a.csv").touch()
        assert amf(["join", alone, "--output", str(tmp_path / name)]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "joined.csv").exists()


def test_faults_of_all_shares_are_listed_once_joined_and_formats_hold_the_same(
    command: list[str], folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    for name in ("03.png", "sub/17.png"):
        (folder / name).write_text("no picture")
    given = score(command, tmp_path / "p.csv", "1/2", "2/2")  # a share with faults is done all the same
    tables = []
    for suffix, read in [("csv", pd.read_csv), ("parquet", pd.read_parquet), ("json", pd.read_json)]:
        assert amf(["join", *given, "--output", str(tmp_path / f"p.{suffix}")]) == 2
        assert "2 of 23 files could not be scored" in capsys.readouterr().err
        assert pd.read_csv(tmp_path / "p.errors.csv")["image"].tolist() == ["03.png", "sub/17.png"]
        tables.append(read(tmp_path / f"p.{suffix}").astype({"page": float}))
    assert len(tables[0]) == 23
    for other in tables[1:]:
        pd.testing.assert_frame_equal(other, tables[0], check_dtype=False)


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "-1/2", "1/2/3", "a/b", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected K/N with K from 1 to N"):
        share_named(text)


def test_two_processes_with_one_share_do_no_harm(
    command: list[str], whole: bytes, tmp_path: Path, capsys: Capture
) -> None:
    """The second began while the first had scored some, and both went on to the end."""
    (part,) = score(command, tmp_path / "p.csv", "1/1")
    content = Path(part).read_bytes().splitlines(keepends=True)
    Path(part).write_bytes(b"".join([*content[:3], content[0], *content[1:], *content[4:6]]))
    assert len(read_part(Path(part))[1]) == 6
    assert amf(["join", part, "--output", str(tmp_path / "p.csv")]) == 0
    assert (tmp_path / "p.csv").read_bytes() == whole
    assert amf([*command, str(tmp_path / "p.csv")]) == 2
    assert "p.csv exists already" in capsys.readouterr().err


def test_under_a_launcher_each_rank_scores_its_share(
    command: list[str], whole: bytes, tmp_path: Path, capsys: Capture
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"num_processes": 2, "num_machines": 1, "main_process_port": port, "mixed_precision": "no"}
    flags |= {"dynamo_backend": "no", "num_cpu_threads_per_process": 1}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    launcher += [f"--{name}={value}" for name, value in flags.items()]
    given = [*launcher, "-m", "amf", *command, str(tmp_path / "p.csv"), "--device", "cpu"]
    done = subprocess.run(given, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "share 1/2: scored" in done.stdout
    assert "share 2/2: scored" in done.stdout
    pd.testing.assert_frame_equal(  # by chunks of another size: in other batches
        pd.read_csv(tmp_path / "p.csv"), pd.read_csv(tmp_path / "whole.csv"), rtol=0, atol=1e-5
    )
    assert not list(tmp_path.glob("*.part"))


def test_a_share_is_not_asked_for_under_a_launcher(
    command: list[str], tmp_path: Path, monkeypatch: Patch
) -> None:
    from amf.bulk import run

    monkeypatch.setattr(run, "_processes", lambda device: object())
    with pytest.raises(DataError, match="--shard is for processes without a launcher"):
        run.open_scorer(shard=Share(1, 2))
