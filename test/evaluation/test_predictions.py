import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas import DataFrame

from amf.errors import DataError
from amf.evaluation import predictions

OUTPUT = "multiple-mitotic-figure-classification"


@pytest.fixture
def write_platform(tmp_path: Path) -> Callable[..., Path]:
    """A folder as the platform hands it to the evaluation: stacks with their outputs and truths.

    `keys` are what a job describes its sockets under: one, or both, as the platform does at times.
    """

    def write(
        outputs: dict[str, Any], truth: dict[str, list[str]], keys: tuple[str, ...] = ("interface",)
    ) -> Path:
        jobs = []
        for number, (image, output) in enumerate(outputs.items()):
            socket = {"slug": OUTPUT, "relative_path": f"{OUTPUT}.json"}
            stack = {"slug": "stacked-histopathology-roi-cropouts"}
            inputs = [{"image": {"name": image}, **dict.fromkeys(keys, stack)}]
            jobs.append({"pk": f"job-{number}", "inputs": inputs, "outputs": [dict.fromkeys(keys, socket)]})
            path = tmp_path / f"job-{number}" / "output" / f"{OUTPUT}.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(output))
        (tmp_path / "predictions.json").write_text(json.dumps(jobs))
        entries = [{"image": k, "labels": v, "tumordomains": [1] * len(v)} for k, v in truth.items()]
        (tmp_path / "ground_truth.json").write_text(json.dumps(entries))
        return tmp_path

    return write


GOOD = [{"class": "normal", "confidence": 0.1}, {"class": "atypical", "confidence": 0.9}]
TRUTH = {"a.tiff": ["normal", "atypical"]}


@pytest.mark.parametrize("keys", [("interface",), ("socket",), ("socket", "interface")])
def test_platform_layout_becomes_one_row_a_figure(
    write_platform: Callable[..., Path], keys: tuple[str, ...]
) -> None:
    read = predictions.read(write_platform({"a.tiff": GOOD}, TRUTH, keys))

    assert read.figures.to_dict("list") == {
        "image": ["a.tiff", "a.tiff"],
        "page": [0, 1],
        "label": [0, 1],
        "predicted": [0, 1],
        "confidence": [0.1, 0.9],
        "domain": [1, 1],
    }
    assert read.notes == []


def test_truth_without_job_is_noted_and_a_job_without_truth_refused(
    write_platform: Callable[..., Path],
) -> None:
    folder = write_platform({"a.tiff": GOOD, "b.tiff": GOOD}, {**TRUTH, "c.tiff": ["normal"]})
    with pytest.raises(
        DataError, match=r"1 images of .* no truth in .* \('b.tiff'\): expected.*--allow-missing"
    ):
        predictions.read(folder)
    read = predictions.read(folder, allow_missing=True)
    assert read.figures["image"].tolist() == ["a.tiff"] * 2
    for name, note in zip("bc", read.notes, strict=True):
        assert f"('{name}.tiff') and are not evaluated" in note


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (GOOD[:1], r"job-0.*\(a.tiff\) holds 1 predictions, the truth 2"),
        ([GOOD[0], 0.5], "1: Input should be a valid dictionary or instance of Output, found 0.5"),
        ([GOOD[0], {"class": "atypical"}], "1.confidence: this key is missing"),
        ([GOOD[0], {"class": "atypical", "confidence": 1}], "1.confidence: 1 is no real number"),
        ([{"class": "AMF", "confidence": 0.9}, GOOD[1]], "0.class: .*, found 'AMF'"),
        ([GOOD[0], {"class": "atypical", "confidence": 1.5}], "1.confidence: .*, found 1.5"),
    ],
)
def test_outputs_the_organisers_refuse_are_refused(
    write_platform: Callable[..., Path], output: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        predictions.read(write_platform({"a.tiff": output}, TRUTH))


Job = dict[str, Any]


def without_pk(job: Job) -> None:
    del job["pk"]


def of_another_track(job: Job) -> None:
    job["inputs"][0]["interface"]["slug"] = "another"


def without_output(job: Job) -> None:
    job["pk"] = "absent"


def described_twice(job: Job) -> None:
    job["outputs"][0]["socket"] = {**job["outputs"][0]["interface"], "relative_path": "x.json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_pk, "predictions.json, job 0"),
        (of_another_track, "predictions.json, job 0"),
        (without_output, "absent.*: no such file"),
        (described_twice, "job 0: one of its sockets has relative_path 'x.json' under socket"),
    ],
)
def test_a_job_that_is_none_of_track_2_is_refused(
    write_platform: Callable[..., Path], change: Callable[[Job], None], message: str
) -> None:
    folder = write_platform({"a.tiff": GOOD}, TRUTH)
    jobs = json.loads((folder / "predictions.json").read_text())
    change(jobs[0])
    (folder / "predictions.json").write_text(json.dumps(jobs))
    with pytest.raises(DataError, match=message):
        predictions.read(folder)


def test_one_class_is_refused(write_platform: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="the truth of all 2 figures is normal, expected both classes"):
        predictions.read(write_platform({"a.tiff": GOOD}, {"a.tiff": ["normal", "normal"]}))


def table() -> DataFrame:
    return DataFrame(
        {
            "image": ["x/1.png", "x/2.png", "x/3.png"],
            "class": ["normal", "atypical", "atypical"],
            "confidence": [0.2, 0.7, 0.5],
            "label": [0, 1, 0],
            "slide": ["001", "001", "002"],
            "domain": ["lung", "lung", "skin"],
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_table_formats_read_alike(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"predictions.{suffix}"
    if suffix == "csv":
        table().to_csv(path, index=False)
    elif suffix == "parquet":
        table().to_parquet(path)
    else:
        table().to_json(path, orient="records")

    figures = predictions.read(path).figures

    assert figures["predicted"].tolist() == [0, 1, 1]
    assert figures["slide"].tolist() == ["001", "001", "002"]  # text, zeros and all
    assert figures["page"].isna().all()
    assert figures["label"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("class", "mitosis", "row 3: the class is 'mitosis', expected AMF or NMF, atypical or normal"),
        ("confidence", 1.5, "row 3: the confidence is 1.5, expected a number from 0 to 1"),
        ("label", None, "row 3: the label is empty, expected AMF or NMF"),
        ("image", "x/1.png", "row 3: 'x/1.png' is listed twice"),
        ("slide", None, "row 3: 'x/3.png' has no slide"),
    ],
)
def test_wrong_row_is_named(tmp_path: Path, column: str, value: Any, message: str) -> None:
    wrong = table()
    wrong[column] = [*wrong[column].tolist()[:2], value]
    wrong.to_csv(tmp_path / "p.csv", index=False)

    with pytest.raises(DataError, match=message):
        predictions.read(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("column", "remedy"), [("confidence", "; it has 'image'"), ("label", ": add one, or name the truth with")]
)
def test_missing_column_is_named(tmp_path: Path, column: str, remedy: str) -> None:
    table().drop(columns=column).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match=f"no column '{column}'{remedy}"):
        predictions.read(tmp_path / "p.csv")


def test_truth_table_is_matched_by_file_name_in_any_order_and_may_use_words(tmp_path: Path) -> None:
    words = table()[["image", "confidence"]].assign(**{"class": ["NMF", "AMF", "AMF"]})
    words.to_csv(tmp_path / "p.csv", index=False)
    truth = table()[["image", "domain"]].assign(label=["normal", "atypical mitosis", False]).iloc[::-1]
    truth["image"] = ["elsewhere/" + name.removeprefix("x/") for name in truth["image"]]
    truth.to_csv(tmp_path / "truth.csv", index=False)

    figures = predictions.read(tmp_path / "p.csv", tmp_path / "truth.csv").figures

    assert figures["predicted"].tolist() == [0, 1, 1]
    assert figures["label"].tolist() == [0, 1, 0]
    assert figures["domain"].tolist() == ["lung", "lung", "skin"]


@pytest.mark.parametrize(
    ("predicted", "known", "found"),
    [
        (3, [0, 1], "p.csv have no truth in "),
        (2, [0, 1, 2], "truth.csv have no prediction in "),
        (2, [0, 1, 2], "votes.csv have no prediction in "),
    ],
)
def test_figure_and_truth_without_the_other(
    tmp_path: Path, predicted: int, known: list[int], found: str
) -> None:
    table().iloc[:predicted].to_csv(tmp_path / "p.csv", index=False)
    truth = tmp_path / found.split()[0]
    if truth.name == "votes.csv":
        fields = {"page": "", "x": "", "y": "", "expert": "Anna", "time": "2026-01-01T00:00:00Z"}
        votes = table()[["image", "slide"]].assign(vote=table()["class"], **fields)
        votes.to_csv(truth, index=False)
    else:
        table().iloc[known].to_csv(tmp_path / "truth.csv", index=False)
        truth = tmp_path / "truth.csv"

    with pytest.raises(DataError, match=rf"1 figures of .*{found}.* \('x/3.png'\): .*--allow-missing"):
        predictions.read(tmp_path / "p.csv", truth)
    read = predictions.read(tmp_path / "p.csv", truth, allow_missing=True)
    assert read.figures["image"].tolist() == ["x/1.png", "x/2.png"]
    assert found in read.notes[-1]


def test_tables_of_other_tools_by_their_own_names(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "File;Class;confidence\npatches/a 1.png;normal;0,25\npatches/b.png;AMF;0,75\n"
    )
    (tmp_path / "t.csv").write_text(
        ",majority,file,Case\r0,no,C:\\data\\a 1.png,1\r1,yes,C:\\data\\b.png,2\r"
    )
    columns = {"image": "file", "label": "majority", "slide": "case"}
    read = predictions.read(tmp_path / "p.csv", tmp_path / "t.csv", columns=columns)
    assert read.figures[["image", "label", "predicted", "confidence", "slide"]].values.tolist() == [
        ["patches/a 1.png", 0, 0, 0.25, "1"],
        ["patches/b.png", 1, 1, 0.75, "2"],
    ]
    with pytest.raises(
        DataError, match=r"t\.csv: no column 'diagnosis' or 'label'; it has 'majority', 'file'"
    ):
        predictions.read(tmp_path / "p.csv", tmp_path / "t.csv", columns={**columns, "label": "diagnosis"})


def test_two_figures_at_one_place_are_two(tmp_path: Path) -> None:
    twice = pd.concat([table(), table()], ignore_index=True).assign(id=list("abcdef"))
    twice.to_csv(tmp_path / "p.csv", index=False)
    assert len(predictions.read(tmp_path / "p.csv").figures) == 6
    table().to_csv(tmp_path / "truth.csv", index=False)
    read = predictions.read(tmp_path / "p.csv", tmp_path / "truth.csv")
    assert read.figures["label"].tolist() == [0, 1, 0] * 2
    twice.assign(id="a").to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(DataError, match=r"'x/1.png' is listed twice"):
        predictions.read(tmp_path / "p.csv")


def test_pages_of_a_table_take_the_organisers_truth(tmp_path: Path) -> None:
    pages = DataFrame(
        {"image": ["in/a.tiff"] * 2, "page": [0, 1], "class": ["normal"] * 2, "confidence": 0.25}
    )
    pages.to_csv(tmp_path / "p.csv", index=False)
    truth = [{"image": "a.tiff", "labels": ["atypical", "normal"], "tumordomains": [3, 6]}]
    (tmp_path / "truth.json").write_text(json.dumps(truth))

    figures = predictions.read(tmp_path / "p.csv", tmp_path / "truth.json").figures

    assert figures["label"].tolist() == [1, 0]
    assert figures["domain"].tolist() == [3, 6]


def test_neither_folder_nor_table(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("")
    (tmp_path / "predictions.json").write_text('[{"pk": "1", "inputs": [], "outputs": []}]')
    for name, message in [
        ("p.txt", "neither a folder nor"),
        ("absent.csv", "no such file"),
        ("predictions.json", "is the platform's list of jobs: name the folder"),
    ]:
        with pytest.raises(DataError, match=message):
            predictions.read(tmp_path / name)
    pd.DataFrame(columns=["image", "class", "confidence", "label"]).to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(DataError, match="holds no predictions"):
        predictions.read(tmp_path / "e.csv")
