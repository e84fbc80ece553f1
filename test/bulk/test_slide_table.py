"""Many slides: sharded, resumed, accounted for, and no tile decoded twice."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf.bulk import slide_table, slides
from amf.bulk.shares import share_named
from amf.cli import main as amf
from amf.data.open_slide import open_slide
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


def test_shares_of_the_slides(pairs: Path, make_bundle: Make, tmp_path: Path) -> None:
    model = make_bundle()
    run(pairs, model)
    alone = outputs(pairs)
    for path in (tmp_path / "out").iterdir():
        path.unlink()
    for share, there in [("2/2", 2), ("1/2", 5)]:
        assert run(pairs, model, "--shard", share) == 0
        assert len(list((tmp_path / "out").iterdir())) == there  # whole outputs: nothing is left to join
    for one, other in zip(alone, outputs(pairs), strict=True):
        pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("suffix", [".csv", ".geojson"])
def test_shares_of_one_slide_are_joined(pairs: Path, make_bundle: Make, tmp_path: Path, suffix: str) -> None:
    places = np.random.default_rng(3).integers(0, 300, (300, 2))  # some chunks for each share
    pd.DataFrame(places, columns=["x", "y"]).to_csv(tmp_path / "f0.csv", index=False)
    command = ["slide", str(tmp_path / "s0.tif"), str(tmp_path / "f0.csv"), "--model", str(make_bundle())]
    alone, joined = tmp_path / f"alone{suffix}", tmp_path / f"joined{suffix}"
    assert amf([*command, "--output", str(alone)]) == 0
    for share in ("1/2", "2/2"):
        assert amf([*command, "--output", str(joined), "--shard", share]) == 0
    parts = [str(share_named(share).part(joined)) for share in ("1/2", "2/2")]
    (tmp_path / "f0.csv").unlink()  # the parts alone are enough
    assert amf(["join", *parts, "--output", str(joined)]) == 0
    assert joined.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".geojson"])
def test_a_slide_whose_name_is_not_utf_8(
    pairs: Path, make_bundle: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    slide = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Pr\xe4parat.tif"))
    (tmp_path / "s0.tif").rename(slide)
    (tmp_path / "f0.csv").write_text("x,y\n10,10\n-4,10\n")
    output = tmp_path / f"o{suffix}"
    command = ["slide", str(slide), str(tmp_path / "f0.csv"), "--mpp", "0.3", "--output", str(output)]
    assert amf([*command, "--model", str(make_bundle())]) == 2
    assert "Pr\\xe4parat.tif: --mpp 0.3 µm/px wins over the file's 0.25" in capsys.readouterr().out
    assert "Pr\\xe4parat.tif, which is 400 x 300 px" in (tmp_path / "o.errors.csv").read_text()
    if suffix == ".geojson":
        assert "Pr\\\\xe4parat.tif#x=10,y=10" in output.read_text()
    else:
        table = pd.read_csv(output) if suffix == ".csv" else pd.read_parquet(output)
        assert table["slide"].tolist() == [f"{tmp_path}/Pr\\xe4parat.tif"]
        assert table["image"].tolist() == [f"{tmp_path}/Pr\\xe4parat.tif#x=10,y=10,mpp=0.3"]


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


def test_a_slide_that_fails_in_any_way_keeps_no_other_from_being_scored(
    pairs: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = slide_table.open_work

    def fails(slide: Path, *given: object) -> object:
        return original(slide, *given) if slide.name != "s2.tif" else {}["no such key"]

    monkeypatch.setattr(slide_table, "open_work", fails)
    assert run(pairs, make_bundle()) == 2
    said = capsys.readouterr()
    assert "5 slides: 4 scored, 1 with faults, 0 done before" in said.out
    assert "s2.tif: KeyError: 'no such key'" in said.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("slide,figures\na,b\n", "no column 'output'"),
        ("slide,figures,output\na,b,\n", "row 1 has an empty cell"),
        ("slide,figures,output\na,b,c.csv\nd,e,c.csv\n", "row 2: .*c.csv is written twice"),
        ("slide,figures,output\na,b,c.txt\n", "c.txt: unsupported output suffix, expected one of .geojson"),
    ],
)
def test_tables_that_are_refused(
    content: str, message: str, tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pairs.csv").write_text(content)
    assert run(tmp_path / "pairs.csv", make_bundle()) == 2
    assert re.search(message, capsys.readouterr().err)


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
