"""Everything that the inputs of `amf predict` hold is scored or reported, and columns keep their type."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from amf.bulk.items import Item, find_items, printable
from amf.errors import AccountingError, DataError, JobError, account
from amf.inference.predict import Predictor
from test.support.drawn import draw_patch
from test.support.fixtures import Capture, Patch

Predict = Callable[..., pd.DataFrame | None]


def reported(output: Path) -> dict[str, str]:
    with output.with_name(f"{output.stem}.errors.csv").open(newline="", encoding="utf-8") as file:
        return {row["image"]: row["error"] for row in csv.DictReader(file)}


def test_images_are_named_relative_to_their_folder(folder: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("nor this")
    found = find_items([str(folder)])
    assert len(found) == 22
    assert found[0] == Item("00.png", folder / "00.png")
    assert [item.number for item in found] == [*range(22)]
    assert {item.image for item in found} >= {"sub/01.png", "stack.tiff"}


def test_inputs_may_be_tables(folder: Path, tmp_path: Path) -> None:
    rows = {"image": ["00.png", "sub/01.png"], "label": [0, 1], "slide": ["007", None], "x": [1, 2]}
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        items = find_items([str(tmp_path / name)], root=folder)
        assert items[0] == Item("00.png", folder / "00.png", {"label": 0, "slide": "007"})
        assert items[1].truth == {"label": 1, "slide": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["absent.png"], "No images found at absent.png"),
        (["empty"], "No images found at empty"),
        (["*.tif"], r"No images found at \*.tif"),
        (["images", "images"], "a second image is named '00.png'"),
        (["t.csv", "images"], "expected inputs with the same columns"),
        (["list.parquet"], r"'slide' of the inputs holds \w+, expected text or numbers"),
        (["number.parquet", "text.csv"], "holds int and str"),
    ],
)
def test_inputs_that_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: Patch, given: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("image,label\nimages/00.png,0\n")
    (tmp_path / "text.csv").write_text("image,slide\nb.png,7\n")
    pq.write_table(pa.table({"image": ["a.png"], "slide": [7]}), "number.parquet")
    pq.write_table(pa.table({"image": ["a.png"], "slide": [[1, 2]]}), "list.parquet")
    with pytest.raises(DataError, match=message):
        find_items(given)


def test_a_folder_is_scored_or_reported_to_the_last_entry(
    tmp_path: Path, predict: Predict, capsys: Capture
) -> None:
    images = tmp_path / "images"
    draw_patch(images / "good.png")
    draw_patch(tmp_path / "elsewhere" / "linked.png", seed=1)
    (images / "more").symlink_to(tmp_path / "elsewhere")
    (images / "gone.png").symlink_to(images / "nowhere.png")
    (images / "gone").symlink_to(images / "nowhere")
    (images / "loop.png").symlink_to(images / "loop.png")
    (images / "back").symlink_to(images)
    os.mkfifo(images / "pipe.png")
    (images / "notes.txt").write_text("no image")
    table = predict(tmp_path / "p.csv", images, code=2)
    assert table is not None
    assert table["image"].tolist() == ["good.png", "more/linked.png"]
    faults = reported(tmp_path / "p.csv")
    assert set(faults) == {"gone.png", "gone", "loop.png", "back", "pipe.png"}
    assert "is a link to nothing" in faults["gone.png"]
    assert "is a link to nothing" in faults["loop.png"]
    assert "link back to a folder" in faults["back"]
    assert "is no regular file" in faults["pipe.png"]
    said = capsys.readouterr()
    assert "1 files are no images by their suffix and are left out: 1 x .txt" in said.out
    assert said.err.splitlines()[-1].startswith("5 of 7 files could not be scored")


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: Patch) -> None:
    draw_patch(tmp_path / "images" / "a" / "good.png")
    draw_patch(tmp_path / "images" / "locked" / "lost.png")
    original = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "locked":  # as the system says it to everybody but root
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.chdir(tmp_path)
    for given, expected in {
        "images": ["a/good.png", "locked"],
        "images/*/*.png": ["images/a/good.png", "images/locked"],
        "*/**/good.png": ["images/a/good.png", "images/locked"],
    }.items():
        found = find_items([given])
        assert [item.image for item in found] == expected
        with pytest.raises(JobError, match="cannot be listed: Permission denied"):
            found[1].read()
    draw_patch(tmp_path / "images" / "locked" / "open" / "kept.png")
    found = find_items(["images/locked/open/*.png"])  # which goes through the folder without listing it
    assert [(item.image, item.fault) for item in found] == [("images/locked/open/kept.png", "")]


def test_patterns_match_as_the_shell_does(tmp_path: Path, monkeypatch: Patch) -> None:
    for name in ("a.png", "b/a.png", "b/c/a.png", "b/c/d.jpg", "b/.hidden.png", "b/[x].png"):
        draw_patch(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for pattern, expected in {
        "*.png": ["a.png"],
        "*/*.png": ["b/[x].png", "b/a.png"],
        "**/*.png": ["a.png", "b/[x].png", "b/a.png", "b/c/a.png"],
        "b/**/a.png": ["b/a.png", "b/c/a.png"],
        "b/[[]x].png": ["b/[x].png"],
        "b/[x].png": ["b/[x].png"],  # a file of this name goes before the pattern
        "b/?/*.jpg": ["b/c/d.jpg"],
        str(tmp_path / "b" / "c" / "*"): [str(tmp_path / "b" / "c" / name) for name in ("a.png", "d.jpg")],
    }.items():
        assert [item.image for item in find_items([pattern])] == expected, pattern


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_a_name_that_is_not_utf_8_is_scored_and_reported(
    tmp_path: Path, predict: Predict, suffix: str
) -> None:
    images = tmp_path / "images"
    draw_patch(images / "a.png")
    draw_patch(Path(os.fsdecode(os.fsencode(images) + b"/caf\xe9.png")))
    Path(os.fsdecode(os.fsencode(images) + b"/bad\xff.png")).write_bytes(b"no picture")
    output = tmp_path / f"p{suffix}"
    predict(output, images, code=2)
    read = {".csv": pd.read_csv, ".json": pd.read_json, ".parquet": pd.read_parquet}[suffix]
    assert read(output)["image"].tolist() == ["a.png", "caf\\xe9.png"]
    ((image, error),) = reported(output).items()
    assert image == "bad\\xff.png"
    assert "bad\\xff.png is not an image" in error


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_columns_keep_their_type_in_every_format(tmp_path: Path, predict: Predict, suffix: str) -> None:
    columns: dict[str, list[object]] = {"label": [1, None], "slide": ["007", "008"], "domain": [True, False]}
    for name in ("a.png", "b.png"):
        draw_patch(tmp_path / name)
    given = pa.table({"image": ["a.png", "b.png"], **columns})
    pq.write_table(given, tmp_path / "t.parquet")
    output = tmp_path / f"p{suffix}"
    predict(output, tmp_path / "t.parquet")
    if suffix == ".parquet":
        written = pq.read_table(output)
        assert written.select(["image", *columns]).cast(given.schema).equals(given)
        assert written.schema.field("page").type == pa.int64()
    elif suffix == ".json":
        rows = json.loads(output.read_text())
        assert {name: [row[name] for row in rows] for name in columns} == columns
    else:
        with output.open(newline="") as file:
            rows = [*csv.DictReader(file)]
        assert [row["label"] for row in rows] == ["1", ""]
        assert [row["slide"] for row in rows] == ["007", "008"]
        assert [row["domain"] for row in rows] == ["True", "False"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,label\na.png,AMF\nb.png,often\n", "row 2: the label is 'often', expected AMF or NMF"),
        ("image,label\n,0\n", "row 1: the image is an empty cell"),
        ("file,label\na.png,0\n", "t.csv: no column 'image'; it has 'file', 'label'"),
        ("image,label\na.png,0,\nb.png,1,\n", "row 1 has 3 cells, expected 2"),
        (b"image\ncaf\xe9.png\n", "is not UTF-8 text: byte 9 is 0xe9"),
    ],
)
def test_a_table_that_cannot_be_passed_on_is_refused_before_the_scoring(
    tmp_path: Path, predict: Predict, monkeypatch: Patch, capsys: Capture, table: str | bytes, message: str
) -> None:
    monkeypatch.setattr(Predictor, "logits", lambda *given: pytest.fail("scored before it was refused"))
    (tmp_path / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    predict(tmp_path / "p.parquet", tmp_path / "t.csv", code=2)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*p.parquet*"))


def test_command_refuses_before_it_works(
    folder: Path, tmp_path: Path, predict: Predict, capsys: Capture
) -> None:
    (tmp_path / "there.json").write_text("")
    for output, used, code, message in [
        ("there.json", None, 2, "exists already"),
        ("p.xlsx", None, 2, "unsupported output suffix, expected one of .csv, .parquet, .json"),
        ("p.csv", tmp_path / "none", 3, "bundle.json cannot be read"),
    ]:
        predict(tmp_path / output, folder, model=used, code=code)
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_any_text_can_be_printed() -> None:
    name = os.fsdecode(b"caf\xe9 \xff")
    assert printable(Path(name)) == "caf\\xe9 \\xff"
    assert printable(f"{name}: né \ud800") == "caf\\xe9 \\xff: né \\ud800"


def test_account_raises_on_any_difference() -> None:
    account("rows", 3, 2, 1)
    for used, refused in ((2, 0), (3, 1)):
        with pytest.raises(AccountingError, match="this is a bug of amf"):
            account("rows", 3, used, refused)
