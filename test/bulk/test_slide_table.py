"""Many slides: sharded, resumed, accounted for, and no tile decoded twice."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from amf.bulk import slide_table, slides
from amf.bulk.shares import share_named
from amf.cli import main as amf
from amf.data.open_slide import open_slide
from test.support.fixtures import Capture, Make, Patch
from test.support.slides import write_pyramid


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


def test_each_slide_gets_its_output_from_the_share_it_is_in(
    pairs: Path, make_bundle: Make, capsys: Capture
) -> None:
    model, out = make_bundle(), pairs.parent / "out"
    for share, there in [("2/2", 2), ("1/2", 5)]:
        assert run(pairs, model, "--shard", share) == 0
        assert len(list(out.iterdir())) == there  # whole outputs: nothing is left to join
    shared = [(out / f"{number}.csv").read_bytes() for number in range(5)]
    (out / "3.csv").unlink()
    capsys.readouterr()
    assert run(pairs, model) == 0
    assert "5 slides: 1 scored, 0 with faults, 4 done before" in capsys.readouterr().out
    assert [(out / f"{number}.csv").read_bytes() for number in range(5)] == shared
    for number in range(5):
        table, given = pd.read_csv(out / f"{number}.csv"), pd.read_csv(pairs.parent / f"f{number}.csv")
        assert table[["x", "y"]].to_numpy().tolist() == given.to_numpy().tolist()
        assert table["slide"].unique().tolist() == [str(pairs.parent / f"s{number}.tif")]


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
    pairs: Path, make_bundle: Make, tmp_path: Path, capsys: Capture, suffix: str
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


def test_a_slide_that_fails_in_any_way_keeps_no_other_from_being_scored(
    pairs: Path, make_bundle: Make, monkeypatch: Patch, capsys: Capture
) -> None:
    original = slide_table.open_work

    def fails(slide: Path, *given: object) -> object:
        return original(slide, *given) if slide.name != "s0.tif" else {}["no such key"]

    monkeypatch.setattr(slide_table, "open_work", fails)
    (pairs.parent / "s1.tif").write_bytes(b"no slide")
    (pairs.parent / "f3.csv").write_text("x,y\n10,10\n-4,10\n")
    assert run(pairs, make_bundle()) == 2
    said = capsys.readouterr()
    assert "5 slides: 2 scored, 3 with faults, 0 done before" in said.out
    assert "3 of 5 slides have faults; the first is" in said.err
    assert "s0.tif: KeyError: 'no such key'" in said.err
    out = pairs.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == ["2.csv", "3.csv", "3.errors.csv", "4.csv"]
    assert (len(pd.read_csv(out / "3.csv")), len(pd.read_csv(out / "3.errors.csv"))) == (1, 1)


def test_no_tile_is_decoded_twice(tmp_path: Path, monkeypatch: Patch) -> None:
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
    assert sorted(item.number for item in work.items) == list(range(400))
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
