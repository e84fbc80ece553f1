"""What every command has in common: help, arguments, streams and the environment."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from amf import __version__
from amf.cli import GROUPS, Command, main
from amf.commands import options
from amf.model.spec import VIEWS
from test.support.drawn import draw_patches, drawn_table
from test.support.fixtures import Capture, Make, Patch
from test.support.made import SHORT, Tag, tiff
from test.support.made import Page as TiffPage
from test.support.paths import ROOT

NAMES = [name for commands in GROUPS.values() for name in commands]


def said(capsys: Capture, *arguments: str) -> str:
    """What a wrong command line is answered with: one sentence on stderr, exit code 2."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    return line


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "amf", *map(str, arguments)]
    environment = {**os.environ, **environment}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


IMPORTED_BY_HELP = """
import sys
from amf.cli import main
assert main(["--help"]) == 0
unwanted = {"torch", "numpy", "pandas", "pydantic", "rich", "amf.commands"}
assert not unwanted & set(sys.modules), sys.modules.keys()
for name in sys.argv[1:]:
    assert main([name, "--help"]) == 0
assert not {"torch", "numpy", "pandas"} & set(sys.modules), sys.modules.keys()
"""


def test_help_imports_no_command_and_that_of_a_command_no_network_and_no_table() -> None:
    command = [sys.executable, "-c", IMPORTED_BY_HELP, *NAMES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    own, _, others = done.stdout.partition("Usage: amf predict")
    assert re.findall(r"^  (\w+)  +\w", own, re.MULTILINE) == NAMES
    assert [line[:-1] for line in own.splitlines() if line.endswith(":")] == ["Options", *GROUPS]
    assert others.count("Usage: amf ") == len(NAMES) - 1


def test_every_command_has_one_module() -> None:
    modules = {path.stem for path in (ROOT / "amf" / "commands").glob("*.py")}
    assert modules == {*NAMES, "__init__", "options"}


def test_views_are_those_of_a_bundle() -> None:
    assert options.Views.__args__[0].__args__[0].__args__ == VIEWS


def test_the_version_is_the_packages_without_being_installed() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"amf {__version__}\n", "")


def test_a_shell_completes_commands_and_options() -> None:
    asked = {"_AMF_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    assert "--output" in run(**asked, COMP_WORDS="amf predict --out").stdout.split()
    assert run(**asked | {"COMP_CWORD": "1"}, COMP_WORDS="amf ab").stdout.split() == ["ablate"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["predct"], "amf predct: No such command 'predct'. Did you mean 'predict'"),
        (["predict", "--outptu", "a"], "amf predict: No such option: --outptu (Possible options: --output"),
        (["predict", "a.png"], "amf predict: Missing option '--output'"),
        (["predict", "--output", "a.csv"], "amf predict: Missing argument 'INPUT...'"),
        (["predict", "a", "--output"], "amf predict: Option '--output' requires an argument"),
        (["predict", "a", "--views", "3"], "amf predict: Invalid value for '--views': '3' is not one of"),
        (["evaluate", "a", "--replicates", "0"], "amf evaluate: Invalid value for '--replicates'"),
        (["slide", "--mpp", "0"], "amf slide: Invalid value for '--mpp': Input should be greater"),
        (["inspect", "a", "b"], "amf inspect: Got unexpected extra argument(s) (b)"),
        (["lodo", "--compare", "a"], "amf lodo: Option '--compare' requires 2 arguments"),
        (["lodo", "--seeds", "0", "x"], "amf lodo: Invalid value for '--seeds': Input should be a valid int"),
    ],
)
def test_a_wrong_argument_is_one_sentence_that_names_it(
    capsys: Capture, arguments: list[str], sentence: str
) -> None:
    assert said(capsys, *arguments).startswith(sentence)


def test_one_flag_takes_the_values_up_to_the_next() -> None:
    taken: list[object] = []
    app = typer.Typer()

    @app.command(cls=Command)
    def _run(recipe: list[str], seeds: options.Seeds = None, name: list[str] | None = None) -> None:
        taken.append((recipe, seeds, name))

    for line in (
        "a b --seeds 0 1 2",
        "--seeds 0 1 2 --name x a b",
        "a --name x --name y b --seeds 0",
        "a --seeds 0 1 --seeds 2 -- b",
    ):
        app(line.split(), standalone_mode=False)
    assert taken == [
        (["a", "b"], [0, 1, 2], None),
        (["a", "b"], [0, 1, 2], ["x"]),
        (["a", "b"], [0], ["x", "y"]),
        (["a", "b"], [0, 1, 2], None),
    ]


@pytest.mark.parametrize(("package", "extra"), [("openslide", "slides"), ("accelerate", "train")])
def test_a_package_that_is_not_installed_is_one_sentence_with_its_remedy(
    monkeypatch: Patch, capsys: Capture, package: str, extra: str
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=f"{package}.inner")

    monkeypatch.setattr("amf.model.bundle.load", missing)
    assert said(capsys, "inspect", "a") == (
        f"`amf inspect` needs the package {package}, which is not installed: "
        f"run `pip install '.[{extra}]'` in the checkout, or install the wheel with [{extra}]"
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_print_goes_on_when_nobody_reads_any_more(tmp_path: Path, unbuffered: str) -> None:
    script = f"""
import sys, time
from amf.inference.streams import outlive_readers
outlive_readers()
print("µ", flush=True)
time.sleep(0.5)  # the reader leaves
for stream in (sys.stdout, sys.stderr):
    for size in (1, 100_000):
        print("x" * size, file=stream, flush=size == 1)
open({str(tmp_path / "done")!r}, "w").close()
"""
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": "ascii"}
    command = ["bash", "-c", '"$0" -c "$1" 2>&1 | head -n 1; echo $PIPESTATUS', sys.executable, script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\\xb5\n0\n", "")
    assert (tmp_path / "done").exists()


def test_a_reader_that_leaves_loses_no_table(tmp_path: Path, make_bundle: Make) -> None:
    draw_patches(drawn_table(3), tmp_path / "images")
    given = [tmp_path / "images", "--model", make_bundle(), "--output", tmp_path / "t.csv"]
    command = ["bash", "-c", '"$0" -m amf predict "$@" 2>&1 | true; echo $PIPESTATUS', sys.executable, *given]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 4


LEFT_OVER = [
    {"RANK": "0"},
    {"LOCAL_RANK": "0"},
    {"WORLD_SIZE": "2"},
    {"PMI_RANK": "1", "PMI_SIZE": "2"},
    {"OMPI_COMM_WORLD_SIZE": "2"},
    {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"},
    {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    | {"TORCHELASTIC_USE_AGENT_STORE": "True"},
]
TRAIN = ["r.yaml", "--data", "d", "--out", "o"]
SCORE = ["a.png", "--output", "o.csv"]
GIVEN = dict.fromkeys(("fit", "lodo", "ablate", "trial", "final"), TRAIN)
GIVEN |= {"predict": SCORE, "slide": ["a.tif", *SCORE], "join": SCORE, "inspect": ["model"]}


@pytest.mark.parametrize("left_over", LEFT_OVER, ids=" ".join)
def test_variables_that_a_launcher_left_behind_are_one_sentence(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture, left_over: dict[str, str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in left_over.items():
        monkeypatch.setenv(name, value)
    for command, arguments in GIVEN.items():
        sentence = said(capsys, command, *arguments)
        assert sentence.startswith("the environment has ")
        assert next(f"{name}={value}" for name, value in left_over.items()) in sentence
        assert sentence.endswith("or unset them to work in one process")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_is_alone_or_whose_launcher_runs_is_taken_at_its_word(
    monkeypatch: Patch, capsys: Capture
) -> None:
    for name, value in {"WORLD_SIZE": "1", "PMI_RANK": "0", "PMI_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert said(capsys, "fit", *TRAIN) == "r.yaml: no such file"
    with socket.create_server(("127.0.0.1", 0)) as store:
        for name, value in {**LEFT_OVER[-1], "MASTER_PORT": str(store.getsockname()[1])}.items():
            monkeypatch.setenv(name, value)
        assert said(capsys, "fit", *TRAIN) == "r.yaml: no such file"


def test_warnings_of_libraries_go_to_stdout_and_our_sentence_stands_alone(
    tmp_path: Path, capsys: Capture
) -> None:
    """Pillow warns of a page whose pixels are 100 megapixels, and the file is refused all the same."""
    side = (SHORT, [10_000])
    huge = TiffPage([bytes(100)], {Tag.WIDTH: side, Tag.HEIGHT: side})
    (tmp_path / "huge.tif").write_bytes(tiff([huge]))

    code = main(["predict", str(tmp_path), "--output", str(tmp_path / "table.csv"), "--device", "cpu"])

    out, err = capsys.readouterr()
    assert code == 2
    assert "DecompressionBombWarning of Image.py: Image size (100000000 pixels)" in out
    assert "Warning" not in err
    assert "huge.tif page 1 is 10000 x 10000 px" in err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_is_a_wrong_flag(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.png").touch()
    output = tmp_path / "table.csv"

    assert main(["predict", str(tmp_path), "--output", str(output), "--device", "cuda"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("but no CUDA device is available")
