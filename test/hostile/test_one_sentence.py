"""Wrong files and folders: one sentence each, before the work begins, and nothing half-written."""

import json
import os
from pathlib import Path

import pytest

from amf.cli import main as amf
from amf.data.loading import read_csv, read_json, read_yaml
from amf.errors import AmfError, DataError
from amf.evaluation import predictions
from amf.inference.sockets import INPUT_SOCKET, OUTPUT_NAME
from test.support.fixtures import Capture, Patch

COMMANDS: dict[str, tuple[str, list[str]]] = {  # command -> its flag of what is written, what else it needs
    "data": ("--out", ["RECIPE", "--root", "."]),
    "augment": ("--out", ["--patches", "."]),
    "fit": ("--out", ["RECIPE", "--data", "."]),
    "lodo": ("--out", ["RECIPE", "--data", "."]),
    "ablate": ("--out", ["RECIPE", "--data", "."]),
    "trial": ("--out", ["RECIPE", "--data", "."]),
    "calibrate": ("--out", ["--lodo", "."]),
    "final": ("--out", ["RECIPE", "--data", ".", "--lodo", "."]),
    "evaluate": ("--output", ["p.csv"]),
    "predict": ("--output", ["p.csv"]),
    "slide": ("--output", ["p.csv", "p.csv"]),
}


def fault(capsys: Capture, *arguments: object) -> str:
    capsys.readouterr()
    assert amf([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


OUTPUTS = [(command, "file/out") for command in COMMANDS]
OUTPUTS += [("fit", "/proc/none/out"), ("fit", "gone/out")]


@pytest.mark.parametrize(("command", "out"), OUTPUTS)
def test_an_output_that_cannot_be_made_is_refused_first(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture, command: str, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "gone").symlink_to("nowhere")
    flag, others = COMMANDS[command]
    assert out in fault(capsys, command, *others, flag, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "gone"]


def test_a_folder_is_no_file_to_write(tmp_path: Path, capsys: Capture) -> None:
    for command in ("augment", "predict", "slide"):
        flag, others = COMMANDS[command]
        assert "is a folder" in fault(capsys, command, *others, flag, tmp_path)


NO_RECIPE: dict[str, tuple[bytes | None, str]] = {
    "a folder": (None, "cannot be read: it is a folder"),
    "Latin-1": ("name: Prüfung\n".encode("latin-1"), "is not UTF-8 text: byte 8 is 0xfc"),
    "nested without end": (b"[" * 5000, "nested too deeply"),
    "a date that is none": (b"name: 2020-99-99\n", "is not valid YAML"),
    "a key twice": (b"name: a\nname: b\n", "'name' appears a second time"),
    "a number without end": (b"seed: " + b"9" * 5000 + b"\n", "is not valid YAML"),
    "a list": (b"- 1\n- 2\n", ""),
    "a number": (b"1\n", ""),
    "nothing": (b"", ""),
    "keys that are no text": (b"1: 2\n[a]: 3\n", ""),
    "a source that is a list": (b"sources: [{source: [1]}]\n", ""),
}


READERS = [(command, kind) for command in ("data", "fit") for kind in NO_RECIPE]
READERS += [(command, "a list") for command in ("lodo", "ablate", "trial", "final")]


@pytest.mark.parametrize(("command", "kind"), READERS)
def test_a_recipe_that_is_none_is_refused_in_one_sentence(
    tmp_path: Path, capsys: Capture, command: str, kind: str
) -> None:
    content, message = NO_RECIPE[kind]
    path = tmp_path / "r.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    given = {"RECIPE": path, ".": tmp_path}
    others = [given.get(value, value) for value in COMMANDS[command][1]]
    said = fault(capsys, command, *others, "--out", tmp_path / "out")
    assert "r.yaml" in said
    assert message in said
    assert not (tmp_path / "out").exists()


def job(pk: str, image: str) -> dict[str, object]:
    answer = {"socket": {"slug": OUTPUT_NAME.removesuffix(".json"), "relative_path": OUTPUT_NAME}}
    return {
        "pk": pk,
        "inputs": [{"image": {"name": image}, "socket": {"slug": INPUT_SOCKET}}],
        "outputs": [answer],
    }


@pytest.mark.parametrize("second", [("1", "a.tif"), ("2", "a.tif"), ("1", "b.tif")])
def test_a_platform_job_listed_twice_is_refused(tmp_path: Path, second: tuple[str, str]) -> None:
    own = {"labels": ["normal", "atypical"], "tumordomains": [1, 1]}
    truth = [{"name": name, "image": name, **own} for name in ("a.tif", "b.tif")]
    (tmp_path / "ground_truth.json").write_text(json.dumps(truth))
    (tmp_path / "predictions.json").write_text(json.dumps([job("1", "a.tif"), job(*second)]))
    answer = [{"class": "normal", "confidence": 0.1}, {"class": "atypical", "confidence": 0.9}]
    for pk in ("1", "2"):
        (tmp_path / pk / "output").mkdir(parents=True)
        (tmp_path / pk / "output" / OUTPUT_NAME).write_text(json.dumps(answer))
    with pytest.raises(DataError, match="is a second one of that name or image"):
        predictions.read(tmp_path)


GOOD = "image,class,confidence,label\na,normal,0.1,0\nb,atypical,0.9,1\n"


WITH_PAGE = "image,class,page,confidence,label\na,normal,{},0.1,0\nb,atypical,2,0.9,1\n"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GOOD.replace("0\n", "0,\n").replace("1\n", "1,\n"), "row 1 has 5 cells, expected 4"),
        (WITH_PAGE.format("1e30"), "page is '1e30'"),
        (WITH_PAGE.format("1.5"), "page is '1.5'"),
        (GOOD.replace("a,normal", ",normal"), "row 1: the image is empty"),
    ],
)  # fmt: skip
def test_a_table_of_predictions_that_would_shift_is_refused(
    tmp_path: Path, capsys: Capture, table: str, message: str
) -> None:
    (tmp_path / "p.csv").write_text(table)
    assert message in fault(capsys, "evaluate", tmp_path / "p.csv", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["[null]", "[1]", '["labels"]', "null", "{}", '[{"labels": 1}]', "[" * 5000, '{"image": 1}']
)
def test_a_truth_that_is_none_is_refused(tmp_path: Path, capsys: Capture, content: str) -> None:
    (tmp_path / "p.csv").write_text(GOOD)
    (tmp_path / "t.json").write_text(content)
    command = ["evaluate", "--output", tmp_path / "out"]
    assert "t.json" in fault(capsys, *command, tmp_path / "p.csv", "--truth", tmp_path / "t.json")
    assert "t.json" in fault(capsys, *command, tmp_path / "t.json")  # nor is it a table of predictions
    assert not (tmp_path / "out").exists()


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json, read_yaml, read_csv):
        with pytest.raises(AmfError, match="cannot be read: it is no regular file"):
            read(tmp_path / "pipe")


def test_a_fault_nobody_foresaw_about_a_file_is_one_sentence(
    monkeypatch: Patch, capsys: Capture, tmp_path: Path
) -> None:
    def fail(*given: object) -> None:
        raise OSError(5, "Input/output error", "some/file")

    monkeypatch.setattr("amf.evaluation.predictions.read", fail)
    assert fault(capsys, "evaluate", "p.csv", "--output", tmp_path / "out") == (
        "some/file cannot be read or written: Input/output error"
    )
