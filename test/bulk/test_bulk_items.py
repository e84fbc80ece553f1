"""Everything that the inputs of `amf predict` hold is scored or reported, and columns keep their type."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from amf.bulk import score as scoring
from amf.bulk.items import Item, Unreadable, find_items
from amf.bulk.merge import errors_path
from amf.bulk.score import score_items
from amf.cli import main as amf
from amf.errors import AccountingError, DataError, account
from amf.inference.predict import Predictor
from amf.model import bundle
from test.support.paths import ROOT
from test.support.processes import amf_that_ends_itself

Make = Callable[..., Path]


def save(path: Path, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def run(*inputs: Path | str, model: Path, output: Path) -> int:
    return amf(["predict", *map(str, inputs), "--model", str(model), "--output", str(output)])


def reported(output: Path) -> dict[str, str]:
    with errors_path(output).open(newline="", encoding="utf-8") as file:
        return {row["image"]: row["error"] for row in csv.DictReader(file)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good patches, one of them behind a link, and all that a folder can hold besides."""
    images = tmp_path / "images"
    save(images / "good.png")
    save(tmp_path / "elsewhere" / "linked.png", seed=1)
    (images / "more").symlink_to(tmp_path / "elsewhere")
    (images / "gone.png").symlink_to(images / "nowhere.png")
    (images / "gone").symlink_to(images / "nowhere")
    (images / "loop.png").symlink_to(images / "loop.png")
    (images / "back").symlink_to(images)
    os.mkfifo(images / "pipe.png")
    (images / "notes.txt").write_text("no image")
    return images


def test_a_folder_is_scored_or_reported_to_the_last_entry(
    folder: Path, tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "p.csv"
    assert run(folder, model=make_bundle(), output=output) == 2
    assert pd.read_csv(output)["image"].tolist() == ["good.png", "more/linked.png"]
    faults = reported(output)
    assert set(faults) == {"gone.png", "gone", "loop.png", "back", "pipe.png"}
    assert "No such file" in faults["gone.png"]
    assert "symbolic links" in faults["loop.png"]
    assert "link back to a folder" in faults["back"]
    assert "not a regular file" in faults["pipe.png"]
    said = capsys.readouterr()
    assert "1 files are no images by their suffix and are left out: 1 x .txt" in said.out
    assert said.err.splitlines()[-1].startswith("5 of 7 files could not be scored")


@pytest.mark.parametrize("pattern", ["**/*.png", "*/*.png"])
def test_a_folder_that_cannot_be_listed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    save(tmp_path / "images" / "a" / "good.png")
    save(tmp_path / "images" / "locked" / "lost.png")
    original = Path.iterdir

    def iterdir(self: Path) -> object:
        if self.name == "locked":  # as the system says it to everybody but root
            raise PermissionError(13, "Permission denied", str(self))
        return original(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    for given in (tmp_path / "images", tmp_path / "images" / pattern):
        found = find_items([str(given)]).items
        assert [type(item) for item in found] == [Item, Unreadable]
        assert found[1].path == tmp_path / "images" / "locked"
        with pytest.raises(DataError.__base__, match="cannot be listed: Permission denied"):
            found[1].read()


def test_patterns_match_as_the_shell_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b/a.png", "b/c/a.png", "b/c/d.jpg", "b/.hidden.png", "b/[x].png"):
        save(tmp_path / name)
    (tmp_path / "b" / "back").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for pattern, expected in {
        "*.png": ["a.png"],
        "*/*.png": ["b/[x].png", "b/a.png"],
        "**/*.png": ["a.png", "b/[x].png", "b/a.png", "b/back", "b/c/a.png"],
        "b/**/a.png": ["b/a.png", "b/back", "b/c/a.png"],
        "b/[[]x].png": ["b/[x].png"],
        "b/[x].png": ["b/[x].png"],  # a file of this name goes before the pattern
        "b/?/*.jpg": ["b/c/d.jpg"],
        str(tmp_path / "b" / "c" / "*"): [str(tmp_path / "b" / "c" / name) for name in ("a.png", "d.jpg")],
    }.items():
        assert [item.image for item in find_items([pattern]).items] == expected, pattern
    for pattern in ("*.tif", "none/*.png"):
        with pytest.raises(DataError, match="matches no image"):
            find_items([pattern])


def test_a_name_that_is_not_utf_8_is_scored_and_reported(tmp_path: Path, make_bundle: Make) -> None:
    images = tmp_path / "images"
    save(images / "a.png")
    for name in (b"caf\xe9.png", b"bad\xff.png"):
        (images / "a.png").rename(os.fsdecode(os.fsencode(images) + b"/" + name))
        save(images / "a.png")
    Path(os.fsdecode(os.fsencode(images) + b"/bad\xff.png")).write_bytes(b"no picture")
    for name in ("p.csv", "p.json", "p.parquet"):
        output = tmp_path / name
        assert run(images, model=make_bundle(), output=output) == 2
        read = {"p.csv": pd.read_csv, "p.json": pd.read_json, "p.parquet": pd.read_parquet}[name]
        assert read(output)["image"].tolist() == ["a.png", "caf\\xe9.png"]
        assert list(reported(output)) == ["bad\\xff.png"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("label", [0, 1]),
        ("label", [1.5, 0.25]),
        ("label", [1, None]),
        ("slide", [7, 8]),
        ("slide", ["007", "008"]),
        ("domain", [True, False]),
    ],
)
def test_columns_keep_their_type_in_every_format(
    tmp_path: Path, make_bundle: Make, suffix: str, column: str, values: list[object]
) -> None:
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    pq.write_table(pa.table({"image": ["a.png", "b.png"], column: values}), tmp_path / "t.parquet")
    output = tmp_path / f"p{suffix}"
    assert run(tmp_path / "t.parquet", model=make_bundle(), output=output) == 0
    if suffix == ".parquet":
        written = pq.read_table(output)
        assert written[column].to_pylist() == values
        assert written.schema.field(column).type == pa.array(values).type
    elif suffix == ".json":
        assert [row[column] for row in json.loads(output.read_text())] == values
    else:
        with output.open(newline="") as file:
            assert [row[column] for row in csv.DictReader(file)] == [
                "" if value is None else str(value) for value in values
            ]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label\na.png,AMF\n", "row 1: the label is 'AMF', expected a number"),
        ("image,label\na.png,0\nb.png,nan\n", "row 2: the label is 'nan', expected a number"),
        ("image,label\na.png,1e999\n", "the label is '1e999'"),
        ("image,label\n,0\n", "row 1: the image is an empty cell"),
        ("image,label\na.png\n", "row 1 has 1 cells, expected 2"),
        ("image,label\na.png,0,\nb.png,1,\n", "row 1 has 3 cells, expected 2"),
        ("image,label,label\na.png,0,1\n", "two columns 'label'"),
        ('image,label\n"a.png,0\n', "not a readable CSV"),
        ("", "is empty"),
        (b"image\ncaf\xe9.png\n", "is not UTF-8 text: byte 9 is 0xe9"),
    ],
)
def test_a_table_that_cannot_be_passed_on_is_refused_before_the_scoring(
    tmp_path: Path,
    make_bundle: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str | bytes,
    message: str,
) -> None:
    monkeypatch.setattr(Predictor, "logits", lambda *given: pytest.fail("scored before it was refused"))
    for name in ("a.png", "b.png"):
        save(tmp_path / name)
    (tmp_path / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    assert run(tmp_path / "t.csv", model=make_bundle(), output=tmp_path / "p.parquet") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*p.parquet*"))


def test_a_column_of_two_types_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["a.png"], "slide": [[1, 2]]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'slide' of the inputs holds list, expected text or numbers"):
        find_items([str(tmp_path / "t.parquet")])
    (tmp_path / "u.csv").write_text("image,slide\nb.png,7\n")
    pq.write_table(pa.table({"image": ["a.png"], "slide": [7]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="holds int and str"):
        find_items([str(tmp_path / "t.parquet"), str(tmp_path / "u.csv")])


def test_whatever_a_reader_raises_is_the_fault_of_that_file(
    tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "images" / name)
    original = Item.read

    def read(self: Item) -> object:
        if self.image == "b.png":
            return 1 // 0
        return original(self) if self.image != "c.png" else np.zeros((0, 128, 128, 3), np.uint8)

    monkeypatch.setattr(Item, "read", read)
    assert run(tmp_path / "images", model=make_bundle(), output=tmp_path / "p.csv") == 2
    assert pd.read_csv(tmp_path / "p.csv")["image"].tolist() == ["a.png"]
    faults = reported(tmp_path / "p.csv")
    assert "ZeroDivisionError" in faults["b.png"]
    assert "holds no page" in faults["c.png"]


def test_a_file_lost_between_reading_and_scoring_is_a_bug_that_shows(
    tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "images" / "a.png")
    monkeypatch.setattr(scoring, "_score_batch", lambda *given: [])
    predictor = Predictor(bundle.load(make_bundle()))
    with pytest.raises(AccountingError, match="1 were given, but 0 used and 0 refused"):
        score_items(find_items([str(tmp_path / "images")]).items, predictor, "digest", tmp_path / "p.csv")


def test_account_raises_on_any_difference() -> None:
    account("rows", 3, 2, 1)
    for used, refused in ((2, 0), (3, 1)):
        with pytest.raises(AccountingError, match="this is a bug of amf"):
            account("rows", 3, used, refused)


def test_ctrl_c_is_one_line_and_the_run_goes_on(tmp_path: Path, make_bundle: Make) -> None:
    save(tmp_path / "0.png")
    (tmp_path / "images").mkdir()
    for number in range(1000):
        os.link(tmp_path / "0.png", tmp_path / "images" / f"{number:04}.png")
    output = tmp_path / "p.csv"
    asked = ["predict", str(tmp_path / "images"), "--model", str(make_bundle()), "--output", str(output)]
    ended = amf_that_ends_itself(signal.SIGINT, 3, asked)
    assert ended.returncode == 130
    assert ended.stderr.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in ended.stderr
    part = output.with_name("p.csv.0-of-1.partial")
    assert part.read_bytes().count(b"\n") == 1 + 3
    again = subprocess.run(
        [sys.executable, "-m", "amf", *asked], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert int(again.stdout.split("scored ")[1].split()[0]) == 1000 - 64 * 3
    assert len(pd.read_csv(output)) == 1000
