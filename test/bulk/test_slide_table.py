"""Many slides: sharded, resumed, accounted for, and no tile decoded twice."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf.bulk import parts, slides
from amf.cli import main as amf
from amf.data.open_slide import open_slide
from test.support.paths import ROOT
from test.support.processes import amf_that_ends_itself
from test.support.slides import write_pyramid

Make = Callable[..., Path]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Five slides with 12 figures each, and the table that names them."""
    generator = np.random.default_rng(1)
    rows = []
    for number in range(5):
        canvas = generator.integers(0, 256, (300, 400, 3), dtype=np.uint8)
        write_pyramid(tmp_path / f"s{number}.tif", canvas, 0.25, levels=1)
        places = generator.integers(0, 300, (12, 2))
        pd.DataFrame(places, columns=["x", "y"]).to_csv(tmp_path / f"f{number}.csv", index=False)
        rows.append((f"s{number}.tif", f"f{number}.csv", f"out/{number}.csv"))
    pd.DataFrame(rows, columns=["slide", "figures", "output"]).to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path / "pairs.csv"


def run(pairs: Path, model: Path, *more: str) -> int:
    return amf(["slide", "--table", str(pairs), "--model", str(model), *more])


def outputs(pairs: Path) -> list[pd.DataFrame]:
    return [pd.read_csv(pairs.parent / "out" / f"{number}.csv") for number in range(5)]


def test_each_slide_gets_its_output(
    pairs: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_bundle()
    assert run(pairs, model) == 0
    for number, table in enumerate(outputs(pairs)):
        given = pd.read_csv(pairs.parent / f"f{number}.csv")
        assert table[["x", "y"]].to_numpy().tolist() == given.to_numpy().tolist()
        assert table["slide"].unique().tolist() == [str(pairs.parent / f"s{number}.tif")]
    assert "5 slides: 5 scored, 0 with faults, 0 done before" in capsys.readouterr().out
    assert sorted(path.name for path in (pairs.parent / "out").iterdir()) == [f"{n}.csv" for n in range(5)]
    assert run(pairs, model) == 0
    assert "5 slides: 0 scored, 0 with faults, 5 done before" in capsys.readouterr().out


def test_ranks_share_the_slides(
    pairs: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = make_bundle()
    run(pairs, model)
    alone = outputs(pairs)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, there in [("1", 2), ("0", 5)]:
        monkeypatch.setenv("RANK", rank)
        assert run(pairs, model) == 0
        assert len(list((tmp_path / "out").glob("*.csv"))) == there
    for one, other in zip(alone, outputs(pairs), strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_figures_of_one_slide_are_shared_by_ranks(pairs: Path, make_bundle: Make, tmp_path: Path) -> None:
    places = np.random.default_rng(3).integers(0, 300, (300, 2))  # some chunks for each rank
    pd.DataFrame(places, columns=["x", "y"]).to_csv(tmp_path / "f0.csv", index=False)
    arguments = ["slide", str(tmp_path / "s0.tif"), str(tmp_path / "f0.csv"), "--model", str(make_bundle())]
    assert amf([*arguments, "--output", str(tmp_path / "alone.geojson")]) == 0
    command = [sys.executable, "-m", "amf", *arguments, "--output", str(tmp_path / "shared.geojson")]
    ranks = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"})
        for rank in "01"
    ]
    assert [rank.wait(timeout=100) for rank in ranks] == [0, 0]
    assert (tmp_path / "shared.geojson").read_bytes() == (tmp_path / "alone.geojson").read_bytes()


def test_a_bad_slide_keeps_no_other_from_being_scored(
    pairs: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    (pairs.parent / "s1.tif").write_bytes(b"no slide")
    (pairs.parent / "f3.csv").write_text("x,y\n10,10\n-4,10\n")
    assert run(pairs, make_bundle()) == 2
    said = capsys.readouterr()
    assert "5 slides: 3 scored, 2 with faults, 0 done before" in said.out
    assert "2 of 5 slides have faults; the first is" in said.err
    assert not (pairs.parent / "out" / "1.csv").exists()
    assert len(pd.read_csv(pairs.parent / "out" / "3.csv")) == 1
    assert len(pd.read_csv(pairs.parent / "out" / "3.errors.csv")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("slide,figures\na,b\n", "no column 'output'"),
        ("slide,figures,output\na,b,\n", "row 1 has an empty cell"),
        ("slide,figures,output\na,b,c.csv\nd,e,c.csv\n", "row 2: .*c.csv is written twice"),
        ("slide,figures,output\na,b,c.txt\n", "c.txt is to be written, expected a name in .geojson"),
    ],
)
def test_tables_that_are_refused(
    content: str, message: str, tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    assert run(tmp_path / "pairs.csv", make_bundle()) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_killed_run_goes_on_where_it_was(
    pairs: Path, make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed once something of a slide of many figures is kept; the answer is that of a run left alone."""
    generator = np.random.default_rng(2)
    places = generator.integers(0, 300, (3000, 2))
    pd.DataFrame(places, columns=["x", "y"]).to_csv(tmp_path / "f0.csv", index=False)
    model = make_bundle()
    output = tmp_path / "o.csv"
    figures = [str(tmp_path / "s0.tif"), str(tmp_path / "f0.csv")]
    asked = ["slide", *figures, "--output", str(output), "--model", str(model), "--device", "cpu"]
    killed = amf_that_ends_itself(signal.SIGKILL, 3, asked)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert parts.line_count(parts.part_path(output, 0, 1)) == 1 + 3

    assert amf(asked) == 0

    scored = int(capsys.readouterr().out.split("scored ")[1].split()[0])
    assert scored == 3000 - 3 * 64
    again = tmp_path / "again.csv"
    assert amf(["slide", *figures, "--output", str(again), "--model", str(model)]) == 0
    assert output.read_bytes() == again.read_bytes()


def test_no_tile_is_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by what the file system hands out: a tile's bytes are read once each."""
    canvas = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    path = write_pyramid(tmp_path / "s.tif", canvas, 0.25, levels=1, compression=None)
    places = np.random.default_rng(1).integers(0, 1024, (400, 2))
    pd.DataFrame(places, columns=["x", "y"]).to_csv(tmp_path / "f.csv", index=False)
    monkeypatch.setattr("amf.data.tiff_slide.CACHE_BYTES", 11 * 256 * 256 * 3)  # two rows of tiles and some

    def bytes_read() -> int:
        content = Path("/proc/self/io").read_text()
        return int(content.split("rchar: ")[1].split()[0])

    work = slides.open_work(path, tmp_path / "f.csv")
    before = bytes_read()
    for item in work.items:
        item.read()
    in_order = bytes_read() - before
    shuffled = open_slide(path)
    before = bytes_read()
    for item in sorted(work.items, key=lambda item: item.number):
        shuffled.patch(item.x, item.y, item.mpp)
    as_given = bytes_read() - before

    assert 0.99 * canvas.nbytes < in_order < 1.1 * canvas.nbytes  # a few bytes lie in the file's buffer
    assert as_given > 3 * in_order
