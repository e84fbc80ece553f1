"""Tables as spreadsheets, pandas, R and Windows write them: read alike, or refused in one sentence."""

from pathlib import Path

import pandas as pd
import pytest

from amf.data.loading import read_csv, read_frame, read_records, table_path, with_names
from amf.errors import DataError

RIGHT = (["file", "x", "class"], [["a b.png", "101.0", "AMF"], ["ü.png", "1234567.125", "NMF"]])


@pytest.mark.parametrize(
    "content",
    [
        "file,x,class\na b.png,101.0,AMF\nü.png,1234567.125,NMF\n",
        "file;x;class\na b.png;101,0;AMF\nü.png;1234567,125;NMF\n",
        "file;x;class\na b.png;101.0;AMF\nü.png;1234567.125;NMF\n",
        "file\tx\tclass\na b.png\t101,0\tAMF\nü.png\t1234567,125\tNMF\n",
        "\ufefffile,x,class\r\n\r\na b.png,101.0,AMF\r\nü.png,1234567.125,NMF",
        "file,x,class\ra b.png,101.0,AMF\rü.png,1234567.125,NMF\r",
        '"file", "x", "class"\n"a b.png", 101.0, AMF\n"ü.png", 1234567.125, "NMF"\n',
        ",file,x,class,\n0,a b.png,101.0,AMF,\n1,ü.png,1234567.125,NMF,\n",
        "Unnamed: 0,file,x,class\n0,a b.png,101.0,AMF\n1,ü.png,1234567.125,NMF\n",
        "sep=;\nfile;x;class\na b.png;101,0;AMF\n;;\nü.png;1234567,125;NMF\n;;\n",
        "\n file , x,class \na b.png,101.0,AMF\nü.png,1234567.125,NMF\n",
    ],
)
def test_one_table_in_many_hands(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.csv").write_bytes(content.encode())
    assert read_csv(tmp_path / "t.csv", numbers=["X"]) == RIGHT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2,\n", "row 1 has 3 cells, expected 2 as in the header, parted by commas"),
        ("a;b\n1;2\n1,2\n", "row 2 has 1 cells, expected 2 as in the header, parted by semicolons"),
        ("x,y\n75,5,81,25\n", "row 1 has 4 cells"),
        (
            "x;y\n1,5;2\n1.234;2\n",
            "column 'x' has '1,5' and '1.234', expected decimal commas or decimal points",
        ),
        ("a,b;c\n1,2;3\n", "commas and semicolons part the header into 2 names alike"),
        ("a,a \n1,2\n", "two columns 'a'"),
        ("a,\n1,2\n", "column 2 has no name"),
        ('a,b\n"1,2\n', "not a readable CSV"),
        ("", "is empty"),
        ("a|b\n1|2\n", "no column 'x'; it has 'a|b'"),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=message.replace("|", "[|]")):
        read_frame(tmp_path / "t.csv", required=["x"], numbers=["x"])


def test_cells_are_text_as_written(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,b\n"x\n\u2028y",\n007,NA\n"1,5", z \n')
    assert read_csv(tmp_path / "t.csv")[1] == [["x\n\u2028y", ""], ["007", "NA"], ["1,5", " z "]]


def test_parquet_gives_the_same_records_as_csv(tmp_path: Path) -> None:
    columns = {"file": ["a", "b"], "x": [None, 2.0**53], "y": [0.1, 1 / 3], "label": [True, False]}
    frame = pd.DataFrame({**columns, "s": [7, 8]})
    frame.to_parquet(tmp_path / "t.parquet")
    frame.assign(x=["", "9007199254740992"]).to_csv(tmp_path / "t.csv")
    tables = [read_records(tmp_path / f"t.{kind}", ["x"]) for kind in ("csv", "parquet")]
    assert [row for _, row in tables[0]] == [row for _, row in tables[1]]
    second = {"file": "b", "x": "9007199254740992", "y": str(1 / 3), "label": "False", "s": "8"}
    assert tables[1][1][1] == second
    assert read_frame(tmp_path / "t.parquet").dtypes.equals(frame.dtypes)
    frame.set_index("file").to_parquet(tmp_path / "t.parquet")
    assert read_records(tmp_path / "t.parquet", ["x"])[1][1] == second
    with pytest.raises(DataError, match=r"t\.xlsx is a spreadsheet, expected a table as CSV or Parquet"):
        read_csv(tmp_path / "t.xlsx")


def test_names_in_other_case_and_of_other_people() -> None:
    frame = pd.DataFrame({"X": [1], "y": [2], "File name": ["a"], "image": ["b"], "Y": [3]})
    named = with_names(frame, "t.csv", required=["x", "y"], columns={"image": "file NAME"})
    assert list(named) == ["x", "y", "image", "Y"]
    assert named["image"].tolist() == ["a"]
    twice = pd.DataFrame({"X": [1], "x ": [1]})
    for table, asked, message in [
        (
            frame,
            {"required": ["label"]},
            r"t\.csv: no column 'label'; it has 'X', 'y', 'File name', 'image', 'Y'",
        ),
        (frame, {"columns": {"label": "file"}}, "no column 'file' or 'label'"),
        (twice, {"required": ["x"]}, "has the columns 'X', 'x ', expected one 'x'"),
    ]:
        with pytest.raises(DataError, match=message):
            with_names(table, "t.csv", **asked)


def test_paths_of_windows() -> None:
    assert [str(table_path(text)) for text in (r"a\fig 0.png", "a/b.png")] == ["a/fig 0.png", "a/b.png"]
    assert table_path(r"C:\data\fig 0.png").name == "fig 0.png"
