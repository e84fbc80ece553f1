"""Every bad job is one sentence and no output; every unusual one that holds 8-bit colour is scored."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amf.errors import JobError
from amf.inference import job, stack
from amf.inference.sockets import INPUT_SOCKET as SOCKET
from amf.inference.sockets import OUTPUT_NAME
from amf.inference.streams import silence
from test.hostile.stacks import (
    BAD_STACKS,
    PAGES,
    PLAIN,
    UNUSUAL_STACKS,
)
from test.support.jobs import save_tiff, write_job
from test.support.paths import ROOT

Make = Callable[..., Path]


def stack_folder(folder: Path) -> Path:
    return folder / "images" / SOCKET


def the_stack(folder: Path) -> Path:
    (path,) = stack_folder(folder).iterdir()
    return path


def replace_by(make: Callable[[Path], object], of: Callable[[Path], Path]) -> Callable[[Path], object]:
    """Put something else in the place of a file of the job."""

    def damage(folder: Path) -> None:
        path = of(folder)
        path.unlink()
        make(path)

    return damage


def sockets_file(folder: Path) -> Path:
    return folder / "inputs.json"


def sockets(edit: Callable[[Any], Any]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = json.loads(sockets_file(folder).read_text())
        sockets_file(folder).write_text(json.dumps(edit(content)))

    return damage


def interface(**changes: object) -> Callable[[Path], object]:
    def edit(content: Any) -> Any:
        content[0]["interface"].update(changes)
        return content

    return sockets(edit)


def text(content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: sockets_file(folder).write_bytes(data)


def link_stack_outside(folder: Path) -> None:
    outside = the_stack(folder).rename(folder.parent / "outside.tif")
    (stack_folder(folder) / "a.tif").symlink_to(outside)


def link_folder_outside(folder: Path) -> None:
    outside = stack_folder(folder).rename(folder.parent / "outside")
    stack_folder(folder).symlink_to(outside)


def sparse(path: Path) -> None:
    """A file of a terabyte that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(1 << 40)


BAD_JOBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no inputs.json": (lambda f: sockets_file(f).unlink(), "inputs.json cannot be read: No such file"),
    "inputs.json is a folder": (replace_by(Path.mkdir, sockets_file), "inputs.json cannot be read"),
    "inputs.json is a pipe": (replace_by(os.mkfifo, sockets_file), "it is not a regular file"),
    "inputs.json is a circle of links": (
        replace_by(lambda path: path.symlink_to(path), sockets_file),
        "inputs.json cannot be read",
    ),
    "inputs.json of a terabyte": (replace_by(sparse, sockets_file), "holds more than 1048576 bytes"),
    "inputs.json is empty": (text(""), "inputs.json is not valid JSON"),
    "not JSON": (text("[{"), "inputs.json is not valid JSON"),
    "not text": (text(b"\xff\x00"), "inputs.json is not valid JSON"),
    "endless nesting": (text("[" * 10**6), "inputs.json is not valid JSON"),
    "a number of a million digits": (text("9" * 10**6), "inputs.json is not valid JSON"),
    "not a list": (sockets(lambda c: 7), "is not a list of sockets"),
    "null": (sockets(lambda c: None), "is not a list of sockets"),
    "text alone": (sockets(lambda c: "socket"), "is not a list of sockets"),
    "an object": (sockets(lambda c: {"a": 1}), "is not a list of sockets"),
    "no interface": (sockets(lambda c: [{}]), "is not a list of sockets"),
    "interface is null": (sockets(lambda c: [{"interface": None}]), "is not a list of sockets"),
    "socket is text": (sockets(lambda c: [{"socket": SOCKET}]), "is not a list of sockets"),
    "socket without a path": (sockets(lambda c: [{"socket": {"slug": SOCKET}}]), "is not a list of sockets"),
    "socket and interface are null": (
        sockets(lambda c: [{"socket": None, "interface": None}]),
        "is not a list of sockets",
    ),
    "socket beside an interface that is text": (
        sockets(lambda c: [{"socket": c[0]["interface"], "interface": SOCKET}]),
        "is not a list of sockets",
    ),
    "socket and interface differ in slug": (
        sockets(lambda c: [{**c[0], "socket": {**c[0]["interface"], "slug": "another"}}]),
        f"has slug 'another' under socket and '{SOCKET}' under interface, expected the same",
    ),
    "socket and interface differ in path": (
        sockets(lambda c: [{**c[0], "socket": {**c[0]["interface"], "relative_path": "x"}}]),
        "has relative_path 'x' under socket and 'images/",
    ),
    "socket has a path, interface none": (
        sockets(lambda c: [{"socket": c[0]["interface"], "interface": {"slug": SOCKET}}]),
        "under socket and None under interface",
    ),
    "no sockets": (sockets(lambda c: []), "has sockets []"),
    "another socket": (interface(slug="histopathology-roi"), "has sockets ['histopathology-roi']"),
    "a slug that is no text": (interface(slug=[SOCKET]), "has sockets [["),
    "a slug without end": (interface(slug="x" * 10**5), "has sockets ['xxx"),
    "two sockets": (sockets(lambda c: c * 2), "expected ['stacked-histopathology-roi-cropouts']"),
    "a path that is no text": (interface(relative_path=3), "relative_path 3"),
    "a path with NUL": (interface(relative_path="a\0b"), "expected a path"),
    "a path of half a character": (interface(relative_path="\ud800"), "expected a path"),
    "a path without end": (interface(relative_path="a/" * 10**5), "expected a path"),
    "a name of 300 characters": (interface(relative_path="a" * 300), "cannot be read: File name too long"),
    "a path out of the job": (interface(relative_path="../x"), "leads out of the job"),
    "an absolute path": (interface(relative_path="/etc"), "leads out of the job"),
    "a path elsewhere": (interface(relative_path="images/x"), "x cannot be read: No such file"),
    "a path to a file": (interface(relative_path="inputs.json"), "cannot be read: Not a directory"),
    "a path to the job itself": (interface(relative_path=""), "holds 'images', 'inputs.json'"),
    "a folder that is a circle of links": (
        lambda f: (shutil.rmtree(stack_folder(f)), stack_folder(f).symlink_to(stack_folder(f))),
        "expected a path",
    ),
    "a folder that is a link outside": (link_folder_outside, "leads out of the job"),
    "no image": (lambda f: the_stack(f).unlink(), "holds nothing, expected exactly one stack"),
    "only a text file": (lambda f: the_stack(f).rename(stack_folder(f) / "a.txt"), "holds 'a.txt'"),
    "two images": (lambda f: save_tiff(stack_folder(f) / "b.tiff", PAGES), "expected exactly one stack"),
    "a stack that is a folder": (replace_by(Path.mkdir, the_stack), "is not a regular file"),
    "a stack that is a pipe": (replace_by(os.mkfifo, the_stack), "is not a regular file"),
    "a stack that is a device": (
        replace_by(lambda path: path.symlink_to("/dev/zero"), the_stack),
        "leads out of the job",
    ),
    "a stack that is a link outside": (link_stack_outside, "leads out of the job"),
    "a stack that is a link to nothing": (
        replace_by(lambda path: path.symlink_to("nothing"), the_stack),
        "is not a regular file",
    ),
    "a stack that is a circle of links": (
        replace_by(lambda path: path.symlink_to(path), the_stack),
        "a path",
    ),
    "a stack of a terabyte": (replace_by(sparse, the_stack), "holds 1099511627776 bytes"),
    "a bad stack whose name holds newlines": (
        lambda f: (the_stack(f).unlink(), (stack_folder(f) / "a\nb\r\n.tif").write_bytes(b"x")),
        "a b .tif is not a TIFF",
    ),
}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / OUTPUT_NAME).write_text("the answer to an earlier job")
    return folder


def refusal(folder: Path, output: Path, model: Path) -> str:
    """Run a bad job: it must end soon, in one sentence, without output and without much memory."""
    peak = peak_memory()
    started = time.process_time()
    with pytest.raises(JobError) as caught:
        job.run(folder, output, model, "cpu")
    assert time.process_time() - started < 10
    assert peak_memory() - peak < 300e6
    assert caught.value.exit_code == 2
    assert not list(output.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) <= 1000
    return message


def peak_memory() -> float:
    """Bytes of the largest resident set so far; the mark is set back, so that the next is one's own."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return 1024 * float(status[status.index("VmHWM:") :].split()[1])


def test_the_tables_hold_what_was_promised() -> None:
    assert len(BAD_JOBS) + len(BAD_STACKS) >= 120
    assert len(UNUSUAL_STACKS) >= 25


@pytest.mark.parametrize("kind", BAD_JOBS)
def test_a_bad_job_is_one_sentence_and_no_output(
    make_job: Make, make_bundle: Make, output: Path, kind: str
) -> None:
    folder = make_job(PAGES)
    damage, message = BAD_JOBS[kind]
    damage(folder)
    assert message in refusal(folder, output, make_bundle())


@pytest.mark.parametrize("kind", BAD_STACKS)
def test_a_bad_stack_is_one_sentence_and_no_output(
    tmp_path: Path, make_bundle: Make, output: Path, kind: str
) -> None:
    name, content, message = BAD_STACKS[kind]
    (write_job(tmp_path / "input", name) / name).write_bytes(content)
    found = refusal(tmp_path / "input", output, make_bundle())
    assert message in found
    assert name in found


PERMISSIONS = """
import sys
from pathlib import Path
from amf.inference import job
from amf.errors import AmfError
root = Path(sys.argv[1])
for path in (root / "input/inputs.json", root / "input/images", *root.glob("input/images/*/*")):
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        job.run(root / "input", root / "output", root / "bundle", "cpu")
    except AmfError as error:
        print(error.exit_code, error)
    path.chmod(mode)
(root / "output").chmod(0o555)
try:
    job.run(root / "input", root / "output", root / "bundle", "cpu")
except AmfError as error:
    print(error.exit_code, error)
"""


def test_what_may_not_be_read_or_written_is_one_sentence(
    make_job: Make, make_bundle: Make, output: Path, tmp_path: Path
) -> None:
    make_job(PAGES)
    make_bundle()
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may read everything, and there is no setpriv to take that right away")
    prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PERMISSIONS, tmp_path], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""
    unreadable_sockets, unreadable_folder, unreadable_stack, read_only = done.stdout.splitlines()
    assert unreadable_sockets.endswith("inputs.json cannot be read: Permission denied")
    assert unreadable_folder.endswith(f"{SOCKET} cannot be read: Permission denied")
    assert unreadable_stack.endswith(".tif cannot be read: Permission denied")
    assert read_only.endswith("output is not a folder that can be written to")
    assert all(line.startswith("2 ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("kind", UNUSUAL_STACKS)
def test_an_unusual_stack_is_read_pixel_for_pixel_and_in_silence(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, content, expected = UNUSUAL_STACKS[kind]
    (tmp_path / name).write_bytes(content)
    with silence():
        read = stack.read_stack(tmp_path / name)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, expected.reshape(-1, 128, 128, 3))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["big-endian", "MHA: compressed"])
def test_an_unusual_stack_is_scored(
    tmp_path: Path, make_bundle: Make, output: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, content, expected = UNUSUAL_STACKS[kind]
    (write_job(tmp_path / "input", name) / name).write_bytes(content)
    job.run(tmp_path / "input", output, make_bundle(), "cpu")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(expected)
    assert capfd.readouterr().err == ""


UNUSUAL_SOCKETS: dict[str, Callable[[str], bytes]] = {
    "UTF-8 with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-32": lambda text: text.encode("utf-32"),
    "keys given twice, the last one counts": lambda text: text.replace(
        '"slug"', '"slug": "another", "slug"'
    ).encode(),
    "NaN in a field that is not read": lambda text: text.replace('"image"', '"pk": NaN, "image"').encode(),
    "white space without end": lambda text: (" " * 900_000 + text).encode(),
    "socket in place of interface": lambda text: text.replace('"interface"', '"socket"').encode(),
    "socket, and interface null": lambda text: text.replace(
        '"interface"', '"interface": null, "socket"'
    ).encode(),
    "socket and interface": lambda text: json.dumps(
        [{**entry, "socket": {**entry["interface"], "is_image_kind": True}} for entry in json.loads(text)]
    ).encode(),
}


@pytest.mark.parametrize("kind", UNUSUAL_SOCKETS)
def test_an_unusual_description_of_a_job_is_understood(make_job: Make, kind: str) -> None:
    folder = make_job(PAGES)
    file = sockets_file(folder)
    file.write_bytes(UNUSUAL_SOCKETS[kind](file.read_text()))
    assert job.find_stack(folder) == the_stack(folder)


def test_a_hidden_file_beside_the_stack_is_no_second_stack(make_job: Make) -> None:
    folder = make_job(PAGES)
    (stack_folder(folder) / ".DS_Store").touch()
    assert job.find_stack(folder).name == "0f1e2d.tif"


def test_a_link_that_stays_inside_the_job_is_followed(make_job: Make) -> None:
    folder = make_job(PAGES)
    the_stack(folder).rename(folder / "elsewhere.tif")
    (stack_folder(folder) / "a.tif").symlink_to(folder / "elsewhere.tif")
    np.testing.assert_array_equal(stack.read_stack(job.find_stack(folder)), PAGES)


def test_a_stack_of_any_name_is_scored(tmp_path: Path, make_bundle: Make, output: Path) -> None:
    name = os.fsdecode(b"-\xff\n\x1b[31m.tif")  # no UTF-8, a line break, a terminal's escape
    (write_job(tmp_path / "input", "a.tif") / name).write_bytes(PLAIN)
    command = [sys.executable, ROOT / "inference.py", "--input", tmp_path / "input", "--output", output]
    done = subprocess.run([*command, "--model", make_bundle()], capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(PAGES)
