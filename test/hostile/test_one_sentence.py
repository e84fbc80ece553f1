"""Wrong files, folders, full disks: one sentence each, before the work begins, and nothing half-written."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from amf.cli import main as amf
from amf.data.loading import read_csv, read_json, read_yaml
from amf.data.packed import pack
from amf.data.sources.base import whole
from amf.data.table import combine, read_table, write_table
from amf.errors import AccountingError, AmfError, DataError
from amf.evaluation import predictions
from test.support.drawn import draw_patches, drawn_table
from test.support.paths import ROOT

Make = Callable[..., Path]

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


def fault(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert amf([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


OUTPUTS = [(command, "file/out") for command in COMMANDS]
OUTPUTS += [("fit", "/proc/none/out"), ("fit", "gone/out")]


@pytest.mark.parametrize(("command", "out"), OUTPUTS)
def test_an_output_that_cannot_be_made_is_refused_first(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    out: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "gone").symlink_to("nowhere")
    flag, others = COMMANDS[command]
    assert out in fault(capsys, command, *others, flag, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "gone"]


@pytest.mark.parametrize("command", ["augment", "predict", "slide"])
def test_a_folder_is_no_file_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, kind: str
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


def platform(folder: Path, jobs: list[object], truth: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "predictions.json").write_text(json.dumps(jobs))
    (folder / "ground_truth.json").write_text(json.dumps(truth))
    return folder


def job(pk: str, image: str) -> dict[str, object]:
    answer = "multiple-mitotic-figure-classification"
    return {
        "pk": pk,
        "inputs": [{"image": {"name": image}, "socket": {"slug": "stacked-histopathology-roi-cropouts"}}],
        "outputs": [{"socket": {"slug": answer, "relative_path": f"{answer}.json"}}],
    }


@pytest.mark.parametrize("second", [("1", "a.tif"), ("2", "a.tif"), ("1", "b.tif")])
def test_a_platform_job_listed_twice_is_refused(tmp_path: Path, second: tuple[str, str]) -> None:
    truth = [
        {"name": name, "image": name, "labels": ["normal", "atypical"], "tumordomains": [1, 1]}
        for name in ("a.tif", "b.tif")
    ]
    folder = platform(tmp_path / "p", [job("1", "a.tif"), job(*second)], truth)
    for pk in ("1", "2"):
        (folder / pk / "output").mkdir(parents=True)
        (folder / pk / "output" / "multiple-mitotic-figure-classification.json").write_text(
            json.dumps([{"class": "normal", "confidence": 0.1}, {"class": "atypical", "confidence": 0.9}])
        )
    with pytest.raises(DataError, match="is a second job of that name or image"):
        predictions.read(folder)


GOOD = "image,class,confidence,label\na,normal,0.1,0\nb,atypical,0.9,1\n"


def with_page(page: str) -> str:
    return (
        GOOD.replace("class,", "class,page,")
        .replace("normal,", f"normal,{page},")
        .replace("l,0.9", "l,2,0.9")
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GOOD.replace("0\n", "0,\n").replace("1\n", "1,\n"), "row 1 has 5 cells, expected 4"),
        (GOOD.replace("b,atypical,0.9,1", "b,atypical,0.9"), "row 2 has 3 cells, expected 4"),
        (GOOD.replace("label", "confidence"), "two columns 'confidence'"),
        (with_page("1e30"), "page is '1e30'"),
        (with_page("1.5"), "page is '1.5'"),
        (GOOD.replace("a,normal", ",normal"), "row 1: the image is empty"),
    ],
)  # fmt: skip
def test_a_table_of_predictions_that_would_shift_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str, message: str
) -> None:
    (tmp_path / "p.csv").write_text(table)
    assert message in fault(capsys, "evaluate", tmp_path / "p.csv", "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content", ["[null]", "[1]", '["labels"]', "null", "{}", '[{"labels": 1}]', "[" * 5000, '{"image": 1}']
)
def test_a_truth_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "p.csv").write_text(GOOD)
    (tmp_path / "t.json").write_text(content)
    said = fault(
        capsys, "evaluate", tmp_path / "p.csv", "--truth", tmp_path / "t.json", "--output", tmp_path / "out"
    )
    assert "t.json" in said
    assert not (tmp_path / "out").exists()
    shutil.copy(tmp_path / "t.json", tmp_path / "q.json")  # nor is it a table of predictions
    assert "q.json" in fault(capsys, "evaluate", tmp_path / "q.json", "--output", tmp_path / "out")


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_json, read_yaml, read_csv):
        with pytest.raises(AmfError, match="cannot be read: it is no regular file"):
            read(tmp_path / "pipe")


@pytest.mark.parametrize("value", ["1e30", "1.5", "inf"])
def test_coordinates_of_a_patch_table_are_whole_and_exact(tmp_path: Path, value: str) -> None:
    write_table(drawn_table(3), tmp_path / "t.csv")
    lines = (tmp_path / "t.csv").read_text().splitlines()
    column = lines[0].split(",").index("x")
    cells = lines[2].split(",")
    cells[column] = value
    (tmp_path / "t.csv").write_text("\n".join([*lines[:2], ",".join(cells), *lines[3:]]) + "\n")
    with pytest.raises(DataError, match="row 2: the x is"):
        read_table(tmp_path / "t.csv")
    for text in (value, "9" * 30, "1_000"):
        with pytest.raises(DataError, match="is not a whole number"):
            whole(text)


def test_a_row_lost_in_merging_tables_is_a_bug_that_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "amf.data.table._explain", lambda removed, *given: removed.drop(removed.index, inplace=True)
    )
    table = drawn_table(3)
    twice = table.assign(image=table["image"] + "2")
    with pytest.raises(AccountingError, match="rows of all tables: 6 were given, but 3 used and 0 refused"):
        combine([table, twice])


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB; it needs root to be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted without root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_packing_onto_a_full_disk_is_one_sentence(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = drawn_table(40)  # 40 x 49,152 bytes
    draw_patches(table, tmp_path / "root")
    code = """
import sys
from pathlib import Path
from amf.data.packed import pack
from amf.data.table import read_table
from amf.errors import DataError
table, root, target = map(Path, sys.argv[1:])
try:
    pack(read_table(table), root, target)
except DataError as error:
    sys.exit(str(error))
"""
    write_table(table, tmp_path / "t.csv")
    given = [tmp_path / "t.csv", tmp_path / "root", small_disk / "p.npy"]
    done = subprocess.run([sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, "a process that touches what the disk has not is killed by SIGBUS"
    assert (
        done.stderr.splitlines()[-1] == f"{small_disk / 'p.npy'} cannot be written: No space left on device"
    )
    assert list(small_disk.iterdir()) == []


def test_packing_beyond_a_limit_leaves_nothing(tmp_path: Path) -> None:
    table = drawn_table(10)
    draw_patches(table, tmp_path / "root")
    with (
        file_size_limit(100_000),
        pytest.raises(DataError, match=r"p\.npy cannot be written: File too large"),
    ):
        pack(table, tmp_path / "root", tmp_path / "p.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_an_evaluation_without_space_leaves_no_half_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.csv").write_text(GOOD)
    command = ["evaluate", str(tmp_path / "p.csv"), "--replicates", "20", "--output", str(tmp_path / "out")]
    with file_size_limit(4096):  # enough for the numbers, not for the report
        assert amf(command) == 2
    assert "report.html cannot be written: File too large" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "out").iterdir())
    assert amf(command) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.json", "report.html"]


def test_predict_names_the_file_that_cannot_be_written(
    tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    draw_patches(drawn_table(2), images)
    for number in range(300):
        (images / f"bad-{number:03}-{'x' * 100}.png").write_bytes(b"no picture")
    output = tmp_path / "p.csv"
    command = ["predict", str(images), "--model", str(make_bundle()), "--output", str(output)]
    (tmp_path / "p.errors.csv").mkdir()  # the table could be written, its list of errors cannot
    assert amf(command) == 2
    assert "p.errors.csv cannot be written: " in capsys.readouterr().err.splitlines()[-1]
    assert not output.exists()
    (tmp_path / "p.errors.csv").rmdir()
    assert amf(command) == 2
    assert len(pd.read_csv(output)) == 2
    assert len(pd.read_csv(tmp_path / "p.errors.csv")) == 300


def test_a_fault_nobody_foresaw_about_a_file_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*given: object) -> None:
        raise OSError(5, "Input/output error", "some/file")

    monkeypatch.setattr("amf.evaluation.predictions.read", fail)
    assert fault(capsys, "evaluate", "p.csv", "--output", tmp_path / "out") == (
        "some/file cannot be read or written: Input/output error"
    )
