import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame, read_csv
from PIL import Image

from amf.data.patches import read_patches
from amf.data.recipe import DataRecipe
from amf.data.sources import SOURCES, Source, register
from amf.data.sources.base import LISTED_TWICE, NO_VOTE, TIE, UNLABELLED, UNUSABLE_ROW, Reading, whole
from amf.data.sources.generic import Columns
from amf.data.sources.midogpp import OTHER_SLIDE
from amf.data.table import combine, vote_conflicts
from amf.errors import DataError
from amf.model.preprocess import PATCH_PX

MIDOG25_HEADER = (
    "image_id,filename,coordinateX,coordinateY,Tumor,Scanner,Origin,Species,"
    "expert1,expert2,expert3,majority\n"
)
AMIBR_HEADER = (
    ",slide,dataset,uid,x,y,expert1_label,expert2_label,"
    "expert1_atypical,expert2_atypical,expert3_atypical,majority_atypical\n"
)


def midog25(root: Path, *rows: str) -> Source:
    (root / "labels.csv").write_text(MIDOG25_HEADER + "\n".join(rows) + "\n")
    return SOURCES["midog25"](labels="labels.csv", patches="p")


# ---- the published tables


def test_midog25_is_the_papers_data_set(published_midog25: Reading) -> None:
    reading, table = published_midog25, published_midog25.table
    assert (len(table), table["label"].sum(), table["slide"].nunique()) == (11937, 1748, 475)
    kinds = [table[column].nunique() for column in ("domain", "species", "tumor", "scanner", "origin")]
    assert kinds == [10, 2, 7, 4, 4]
    sizes = table["domain"].value_counts()
    assert (sizes.min(), sizes.max()) == (189, 3959)
    assert sizes.idxmin() == "canine soft tissue sarcoma, 3D Histech, VMU Vienna, Canine"
    assert len(vote_conflicts(table)) == 49
    assert (table["votes"].str.len() == 2).sum() == 7127
    assert not len(reading.removed)
    assert "'Hamammatsu XR' read as 'Hamamatsu XR' in 451 rows" in reading.notes[0]


def test_amibr_is_the_published_data_set(published_amibr: DataFrame) -> None:
    table = published_amibr
    assert (len(table), table["label"].sum(), table["slide"].nunique()) == (3720, 832, 202)
    amf = table.groupby("domain")["label"].agg(["size", "sum"]).T.to_dict("list")
    assert amf == {
        "TUPAC16": [1999, 428],
        "human breast cancer, Aperio CS2, UMC Utrecht, Human": [688, 172],
        "human breast cancer, Hamamatsu S360, UMC Utrecht, Human": [582, 127],
        "human breast cancer, Hamamatsu XR, UMC Utrecht, Human": [451, 105],
    }
    row = table[table["image"] == "AMi-Br/Atypical/MIDOG21_7.png"].iloc[0]
    assert (row["slide"], row["x"], row["y"], row["votes"]) == ("MIDOG21/002", 1867, 1583, "111")
    assert row["sublabel"] == "AMF segregation|AMF segregation"


def test_midog25_and_amibr_share_exactly_1721_figures(
    published_midog25: Reading, published_amibr: DataFrame
) -> None:
    table, removed = combine([published_midog25.table, published_amibr])
    assert (len(table), table["label"].sum(), len(removed)) == (13936, 2176, 1721)
    assert set(removed["dataset"]) == {"AMi-Br"}
    assert not removed["detail"].str.contains("whose label").any(), "both publish the same majority"
    assert set(removed["domain"]) <= set(published_midog25.table["domain"]), (
        "the shared domains are named alike"
    )
    assert table["domain"].nunique() == 11


def test_omg_octo_lists_four_figures_twice(shared_data: Path) -> None:
    reading = SOURCES["omg_octo"]().read(shared_data)
    assert (len(reading.table), len(reading.removed)) == (1753, 4)
    assert set(reading.removed["reason"]) == {LISTED_TWICE}
    assert reading.table["label"].sum() + reading.removed["label"].sum() == 1378


def test_atnorm_md_has_five_votes_a_patch(shared_data: Path, patches: Path, tmp_path: Path) -> None:
    (tmp_path / "AtNorM-MD").symlink_to(patches / "AtNorM-MD")
    (tmp_path / "votes.csv").symlink_to(shared_data / "AtNorM-MD_expert_votes.csv")
    table = SOURCES["atnorm_md"](votes="votes.csv").read(tmp_path).table
    assert (len(table), table["label"].sum(), table["domain"].nunique()) == (2107, 219, 1)
    assert (table["votes"].str.len() == 5).all()
    assert not len(vote_conflicts(table))
    row = table[table["image"] == "AtNorM-MD/Atypical/3.png"].iloc[0]
    assert (row["votes"], row["soft_label"], row["slide"]) == ("01111", 0.8, "AtNorM-MD/block 000")


def test_published_patches_are_padded_black_around_the_coordinate(
    published_amibr: DataFrame, patches: Path
) -> None:
    edge = published_amibr[(published_amibr["x"] < 64) | (published_amibr["y"] < 64)]
    assert len(edge) == 41
    for row in edge.itertuples():
        patch = np.asarray(Image.open(patches / row.image))
        left, top = max(64 - row.x, 0), max(64 - row.y, 0)
        assert not patch[:, :left].any()
        assert not patch[:top].any()
        assert patch[:, left].any(), "not a column more"
        assert patch[top].any(), "nor a row more"


# ---- rows that are not usable


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ("2.png,201.tiff,5,6,t,s,o,Canine,NMF,NMF,,MF", "the label is 'MF', expected AMF or NMF"),
        ("2.png,201.tiff,5,6,t,s,o,Canine,NMF,maybe,,NMF", "the label is 'maybe'"),
        ("2.png,201.tiff,5.5,6,t,s,o,Canine,NMF,NMF,,NMF", "coordinate '5.5'"),
        ("1.png,202.tiff,7,6,t,s,o,Canine,NMF,NMF,,NMF", "image 'p/1.png' appears a second time"),
        ("2.png,slide.tiff,7,6,t,s,o,Canine,NMF,NMF,,NMF", "slide 'slide.tiff' is not a MIDOG slide"),
    ],
)
def test_an_unusable_row_is_an_error_or_listed(tmp_path: Path, row: str, fault: str) -> None:
    good = "1.png,201.tiff,1,2,t,s,o,Canine,AMF,NMF,AMF,AMF"
    source = midog25(tmp_path, good, row)
    with pytest.raises(DataError) as caught:
        source.read(tmp_path)
    assert "labels.csv row 2: " in str(caught.value)
    assert fault in str(caught.value)

    reading = source.read(tmp_path, skip_bad=True)
    assert reading.table["image"].tolist() == ["p/1.png"]
    assert reading.table["soft_label"].tolist() == [2 / 3]
    assert reading.removed["reason"].tolist() == [UNUSABLE_ROW]
    assert fault in reading.removed["detail"].iloc[0]


@pytest.mark.parametrize("text", ["1.5", "1e30", "inf", "9" * 30, "1_000"])
def test_a_coordinate_is_whole_and_exact(text: str) -> None:
    with pytest.raises(DataError, match="is not a whole number"):
        whole(text)


def test_a_missing_file_and_a_missing_column_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"AMI-BR\.csv: no such file"):
        SOURCES["amibr"]().read(tmp_path)
    (tmp_path / "AMI-BR.csv").write_text("slide,dataset,uid,x\n")
    missing = r"AMI-BR\.csv: no column 'majority_atypical'; it has 'slide', 'dataset', 'uid', 'x'"
    with pytest.raises(DataError, match=missing):
        SOURCES["amibr"]().read(tmp_path, skip_bad=True)


def test_a_source_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="'amibr' is already AmiBr"):
        register("amibr")(SOURCES["midog25"])


# ---- layouts


def test_amibr_takes_class_folders_or_one_folder(tmp_path: Path) -> None:
    (tmp_path / "AMI-BR.csv").write_text(
        AMIBR_HEADER
        + "0,040.tiff,MIDOG21,6,44,21,NMF other,AMF other,False,True,True,True\n"
        + "1,05_stitched1.tif,TUPAC16,7,4,2,NMF ring shape,NMF metaphase,False,False,False,False\n"
    )
    (tmp_path / "patches").mkdir()
    flat = SOURCES["amibr"](patches="patches").read(tmp_path).table
    assert flat["image"].tolist() == ["patches/MIDOG21_6.png", "patches/TUPAC16_7.png"]
    (tmp_path / "patches" / "Normal").mkdir()
    classes = SOURCES["amibr"](patches="patches").read(tmp_path).table
    assert classes["image"].tolist() == ["patches/Atypical/MIDOG21_6.png", "patches/Normal/TUPAC16_7.png"]
    assert classes["slide"].tolist() == ["MIDOG21/040", "TUPAC16/05_stitched1"]
    assert classes["domain"].tolist() == ["human breast cancer, Hamamatsu XR, UMC Utrecht, Human", "TUPAC16"]


def write_class_folders(root: Path) -> None:
    for name in ("Atypical/10.png", "Normal/9.png", "Normal/120.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (PATCH_PX, PATCH_PX)).save(root / name)


def test_atnorm_br_reads_folders_alone(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "AtNorM-Br")
    table = SOURCES["atnorm_br"]().read(tmp_path).table
    assert table["image"].map(lambda image: Path(image).name).tolist() == ["9.png", "10.png", "120.png"]
    assert table["label"].tolist() == [0, 1, 0]
    assert table["slide"].tolist() == ["AtNorM-Br/block 000", "AtNorM-Br/block 000", "AtNorM-Br/block 002"]
    assert set(table["votes"]) == {""}
    with pytest.raises(DataError, match="no PNG files in Atypical/ and Normal/"):
        SOURCES["atnorm_br"](patches="elsewhere").read(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault", "left"),
    [
        ("", "no votes on '120.png'", 2),
        ("120.png,Atypical,Atypical", "'120.png' lies in Normal/ but its majority", 2),
        ("120.png,Odd,Normal", "the label is 'Odd'", 2),
        ("120.png,Normal,Normal\n11.png,Normal,Normal", "'11.png' is not in AtNorM-MD", 3),
        ("120.png,Normal,Normal\n9.png,Normal,Normal", "'9.png' is not in AtNorM-MD, or has votes", 3),
    ],
)
def test_votes_and_folders_must_agree(tmp_path: Path, line: str, fault: str, left: int) -> None:
    write_class_folders(tmp_path / "AtNorM-MD")
    rows = f"Filename,Expert_1,Majority\n9.png,Normal,Normal\n10.png,Atypical,Atypical\n{line}\n"
    (tmp_path / "votes.csv").write_text(rows)
    source = SOURCES["atnorm_md"](votes="votes.csv")
    with pytest.raises(DataError, match=fault):
        source.read(tmp_path)
    reading = source.read(tmp_path, skip_bad=True)
    assert (len(reading.table), len(reading.removed)) == (left, 1)


COLUMNS = {"image": "file", "slide": "case"}


def generic(root: Path, text: str, **settings: Any) -> Source:
    (root / "labels.csv").write_text(text)
    return SOURCES["generic"](**{"dataset": "Lab", "labels": "labels.csv", "patches": "p", **settings})


def test_generic_reads_any_table(tmp_path: Path) -> None:
    text = "file;Class;case;a;b;px;py;stain;kind\nx\\1.png;ATYPICAL;7;typical;atypical;10,0;20;HE;ring\n"
    text += "2.png;typical;8;;;;;;\n"
    columns = {"label": "class", "votes": ["a", "b"], "x": "px", "y": "py"}
    columns |= {"scanner": "stain", "sublabel": "kind"}
    constants = {"tumor": "human lung cancer", "species": "Human"}
    source = generic(tmp_path, text, columns={**COLUMNS, **columns}, constants=constants)
    first, second = source.read(tmp_path).table.to_dict("records")
    assert (first["image"], first["slide"]) == ("p/x/1.png", "Lab/7")
    assert (first["x"], first["y"], first["label"], first["sublabel"]) == (10, 20, 1, "ring")
    assert (first["votes"], first["soft_label"]) == ("01", 0.5)
    assert (second["votes"], second["soft_label"]) == ("", 0.0)
    assert [first["domain"], second["domain"]] == ["human lung cancer, HE, Human", "human lung cancer, Human"]
    read_csv(tmp_path / "labels.csv", sep=";").to_parquet(tmp_path / "labels.parquet")
    columns["x"] = columns["y"] = None  # decimal commas are text to pandas
    sources = [source.model_copy(update={"columns": Columns(**COLUMNS, **columns)})]
    sources.append(sources[0].model_copy(update={"labels": "labels.parquet"}))
    csv, parquet = (source.read(tmp_path).table for source in sources)
    assert parquet.equals(csv)


def test_votes_alone_give_the_label_and_ties_are_listed(tmp_path: Path) -> None:
    text = "file,case,A,B,C\n1,s,AMF,normal,atypical\n2,s,NMF,AMF,unsure\n3,s,unsure,,\n4,s,no,,unsure\n"
    reading = generic(tmp_path, text, columns={**COLUMNS, "votes": ["A", "B", "C"]}).read(tmp_path)
    taken = reading.table[["image", "label", "votes", "domain"]].to_numpy().tolist()
    assert taken == [["p/1", 1, "101", "Lab"], ["p/4", 0, "0", "Lab"]]
    removed = reading.removed[["image", "votes", "reason"]].to_numpy().tolist()
    assert removed == [["p/2", "01", TIE], ["p/3", "", NO_VOTE]]
    assert reading.removed["detail"].str.endswith(("labels.csv row 2", "labels.csv row 3")).all()


def test_a_recipe_without_a_figure_left_says_why(tmp_path: Path) -> None:
    text = "file,case,v\n1,s,AMF|NMF\n2,s,unsure\n3,s,unsure\n"
    recipe = DataRecipe((generic(tmp_path, text, columns={**COLUMNS, "votes": "v"}),))
    with pytest.raises(DataError, match="left to be used; 2 rows: no vote but unsure, 1 rows: the"):
        recipe.read(tmp_path)


@pytest.mark.parametrize("cell", ["1101", "AMF; yes; NMF; atypical", "1|1|0|1|unsure"])
def test_one_column_holds_all_votes(tmp_path: Path, cell: str) -> None:
    source = generic(tmp_path, f"file,case,v\n1.png,7,{cell}\n", columns={**COLUMNS, "votes": "v"})
    assert source.read(tmp_path).table["votes"].tolist() == ["1101"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.png,s,maybe,5", "row 1: column 'Expert A': the label is 'maybe', expected AMF or NMF"),
        ("1.png,s,AMF,5.5", "row 1: column 'x': coordinate '5.5' is not a whole number of px"),
        ("1.png,,AMF,5", "row 1: column 'case': the cell is empty"),
    ],
)
def test_a_faulty_cell_is_named_with_its_column(tmp_path: Path, row: str, message: str) -> None:
    columns = {**COLUMNS, "votes": ["Expert A"], "x": "x"}
    with pytest.raises(DataError, match=message):
        generic(tmp_path, f"file,case,Expert A,x\n{row}\n", columns=columns).read(tmp_path)
    columns["scanner"] = "scan ner"
    with pytest.raises(DataError, match="no column 'scan ner'; it has 'file', 'case', 'Expert A', 'x'"):
        generic(tmp_path, f"file,case,Expert A,x\n{row}\n", columns=columns).read(tmp_path)


# ---- MIDOG++: whole images


@pytest.fixture
def midogpp(tmp_path: Path) -> Path:
    """A data root with one drawn ROI of 300 x 200 px and its database."""
    pixels = np.random.default_rng(0).integers(1, 256, (200, 300, 3), dtype=np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "245.tiff")
    np.save(tmp_path / "pixels.npy", pixels)
    boxes = [([125, 75, 175, 125], 1), ([5.5, 165, 55.5, 215], 1)]
    boxes += [([100, 20, 150, 70], 2), ([200, 20, 250, 70], 1)]
    database = {
        "images": [{"id": 9, "file_name": "245.tiff", "width": 300, "height": 200}],
        "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}],
        "annotations": [
            {"id": i, "bbox": box, "category_id": kind, "image_id": 9} for i, (box, kind) in enumerate(boxes)
        ],
    }
    (tmp_path / "MIDOG++.json").write_text(json.dumps(database))
    return tmp_path


def test_midogpp_cuts_the_labelled_figures_out_of_whole_images(midogpp: Path) -> None:
    rest = "t,Hamammatsu XR,o,Canine,AMF,AMF,,AMF"
    places = ("1.png,245.tiff,150,100", "2.png,245.tiff,30,190", "3.png,201.tiff,1,1")
    midog25(midogpp, *(f"{place},{rest}" for place in places))
    reading = SOURCES["midogpp"](labels="labels.csv").read(midogpp)
    assert reading.table["slide"].unique().tolist() == ["MIDOG++/245"]
    assert reading.table["image"].tolist() == ["images/245.tiff#x=150,y=100", "images/245.tiff#x=30,y=190"]
    assert sorted(reading.removed["reason"]) == sorted([UNLABELLED, OTHER_SLIDE])
    assert "in 2 rows" in reading.notes[0]

    pixels = np.load(midogpp / "pixels.npy")
    inner, corner = read_patches(midogpp / "images" / "245.tiff", reading.table["image"].tolist())
    np.testing.assert_array_equal(inner, pixels[36:164, 86:214])
    assert isinstance(corner, np.ndarray)
    np.testing.assert_array_equal(corner[:74, 34:], pixels[126:, :94])
    assert not corner[:, :34].any(), "black outside the image"
    assert not corner[74:].any()


def test_a_label_without_its_figure_is_refused(midogpp: Path) -> None:
    source = SOURCES["midogpp"](labels="labels.csv")
    rest = "t,s,o,Canine,AMF,AMF,,AMF"
    midog25(midogpp, f"1.png,245.tiff,125,45,{rest}", f"2.png,245.tiff,150,100,{rest}")
    look_alike = r"row 1: MIDOG\+\+\.json has no mitotic figure at \(125, 45\) of 245\.tiff"
    with pytest.raises(DataError, match=look_alike):
        source.read(midogpp)
    reading = source.read(midogpp, skip_bad=True)
    assert len(reading.table) == 1
    assert sorted(reading.removed["reason"]) == sorted([UNUSABLE_ROW, UNLABELLED, UNLABELLED])
    (midogpp / "MIDOG++.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="not a MIDOG database"):
        source.read(midogpp)
