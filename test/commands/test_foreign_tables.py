"""Tables as spreadsheets, pandas, Windows and `amf slide` write them, by the commands that read them."""

from pathlib import Path

import pandas as pd
import pytest

from amf.cli import main
from amf.data.table import read_table
from test.support.drawn import draw_patch, draw_patches, drawn_table
from test.support.fixtures import Capture, Make

NUMBERS = range(6)
FLOATS = pd.DataFrame(
    {
        "file": [f"fig {n}.png" for n in NUMBERS],
        "class": [n % 2 for n in NUMBERS],
        "case": ["c0"] * 6,
        "x": [None, *(100.0 + n for n in NUMBERS[1:])],
        "y": [None, *(100.0 + n for n in NUMBERS[1:])],
    }
).to_csv()


def rows(header: str, line: str, words: tuple[str, str] = ("NMF", "AMF")) -> str:
    lines = [line.format(n=n, word=words[n % 2], x=75 + 150 * n) for n in NUMBERS]
    return "\n".join([header, *lines, ""])


FILE = "columns: {image: file, label: class, slide: case%s}"
OWN = "columns: {image: image, label: class, slide: slide, x: x, y: y}"
YES = rows("file,class,case", "fig {n}.png,{word},c0", ("No", "Yes"))
NO = rows("file,class,case", "fig {n}.png,{word},c0", ("Yes", "No"))
ONE = rows("file,class,case", "fig {n}.png,{word},c0", ("0.0", "1.0"))


@pytest.mark.parametrize(
    ("table", "columns", "spellings", "x"),
    [
        (FLOATS, FILE % ", x: x, y: y", "", 101),
        (rows("image,page,class,slide,x,y", "fig {n}.png,,{word},a.tif,{x}.0,81.0"), OWN, "", 225),
        (rows("file;class;case;X", "fig {n}.png;{word};c0;{x},0"), FILE % ", x: x", "", 225),
        (YES, FILE % "", "", None),
        (YES, FILE % "", "spellings: {Yes: 1, No: 0}", None),
        (NO, FILE % "", "spellings: {Yes: 0, No: 1}", None),
        (ONE, FILE % "", "spellings: {1.0: 1, 0: 0}", None),
        (rows("file,class,case", "..\\p\\fig {n}.png,{word},c0"), FILE % "", "", None),
    ],
    ids=["floats", "own", "semicolons", "yes", "Yes: 1", "Yes: 0", "1.0", "Windows"],
)
def test_amf_data_reads(
    tmp_path: Path, capsys: Capture, table: str, columns: str, spellings: str, x: int | None
) -> None:
    for n in NUMBERS:
        draw_patch(tmp_path / "p" / f"fig {n}.png", seed=n)
    (tmp_path / "labels.csv").write_text(table)
    lines = ["source: generic", "dataset: Lab", "labels: labels.csv", "patches: p", columns, spellings]
    recipe = "sources:\n  - " + "\n    ".join(filter(None, lines)) + "\n"
    (tmp_path / "recipe.yaml").write_text(recipe)
    arguments = [str(tmp_path / "recipe.yaml"), "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["data", *arguments]) == 0, capsys.readouterr().err
    read = read_table(tmp_path / "out" / "table.csv")
    assert read["label"].tolist() == [0, 1] * 3
    if x is not None:
        assert read["x"].iloc[1] == x


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_amf_predict_reads_paths_of_windows_words_and_other_names(
    tmp_path: Path, make_bundle: Make, suffix: str
) -> None:
    draw_patches(drawn_table(2), tmp_path)
    files, labels = [r"drawn\0000.png", r"drawn\0001.png"], ["NMF", "Atypical mitosis"]
    table = pd.DataFrame({"File": files, "Label": labels, "tumour": ["a", "b"]})
    if suffix == ".csv":
        table.to_csv(tmp_path / "in.csv", sep=";")
    else:
        table.to_parquet(tmp_path / "in.parquet")
    output = tmp_path / "out.csv"
    options = ["--column", "image=file", "--column", "domain=tumour", "--model", str(make_bundle())]
    assert main(["predict", str(tmp_path / f"in{suffix}"), "--output", str(output), *options]) == 0
    written = pd.read_csv(output)
    assert written[["label", "domain"]].to_numpy().tolist() == [[0, "a"], [1, "b"]]
