"""Every bad job is one sentence and no output; every unusual one that holds 8-bit colour is scored."""

import json
import os
import subprocess
import sys
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
from test.hostile.stacks import BAD_STACKS, PAGES, PLAIN, UNUSUAL_STACKS, name_of
from test.support.fixtures import Capture, Make
from test.support.jobs import save_tiff, write_job
from test.support.paths import ROOT


def stack_folder(folder: Path) -> Path:
    return folder / "images" / SOCKET


def the_stack(folder: Path) -> Path:
    (path,) = stack_folder(folder).iterdir()
    return path


def sockets_file(folder: Path) -> Path:
    return folder / "inputs.json"


def sockets(edit: Callable[[Any], Any]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        content = json.loads(sockets_file(folder).read_text())
        sockets_file(folder).write_text(json.dumps(edit(content)))

    return damage


def interface(**changes: object) -> Callable[[Path], object]:
    return sockets(lambda content: [{"interface": {**content[0]["interface"], **changes}}])


def text(content: bytes) -> Callable[[Path], object]:
    return lambda folder: sockets_file(folder).write_bytes(content)


def stack_of_a_terabyte(folder: Path) -> None:
    with the_stack(folder).open("wb") as file:
        file.truncate(1 << 40)  # it takes no room on the disk


BAD_JOBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no inputs.json": (lambda f: sockets_file(f).unlink(), "inputs.json cannot be read: No such file"),
    "inputs.json is empty": (text(b""), "inputs.json is not valid JSON"),
    "not text": (text(b"\xff\x00"), "inputs.json is not valid JSON"),
    "endless nesting": (text(b"[" * 10**6), "inputs.json is not valid JSON"),
    "null": (sockets(lambda c: None), "is not a list of sockets"),
    "an object": (sockets(lambda c: {"a": 1}), "is not a list of sockets"),
    "no socket and no interface": (sockets(lambda c: [{}]), "is not a list of sockets"),
    "socket without a path": (sockets(lambda c: [{"socket": {"slug": SOCKET}}]), "is not a list of sockets"),
    "socket and interface differ in slug": (
        sockets(lambda c: [{**c[0], "socket": {**c[0]["interface"], "slug": "another"}}]),
        f"has slug 'another' under socket and '{SOCKET}' under interface, expected the same",
    ),
    "socket and interface differ in path": (
        sockets(lambda c: [{**c[0], "socket": {**c[0]["interface"], "relative_path": "x"}}]),
        "has relative_path 'x' under socket and 'images/",
    ),
    "no sockets": (sockets(lambda c: []), "has the sockets []"),
    "another socket": (interface(slug="histopathology-roi"), "has the sockets [('histopathology-roi', "),
    "a slug without end": (interface(slug="x" * 10**5), "has the sockets [('xxx"),
    "two sockets": (sockets(lambda c: c * 2), f"expected '{SOCKET}' and its path"),
    "a path that is no text": (interface(relative_path=3), "and its path"),
    "a path with NUL": (interface(relative_path="a\0b"), "cannot be read"),
    "a path of half a character": (interface(relative_path="\ud800"), "cannot be read"),
    "a path elsewhere": (interface(relative_path="images/x"), "x cannot be read: No such file"),
    "a path to a file": (interface(relative_path="inputs.json"), "cannot be read: Not a directory"),
    "no image": (lambda f: the_stack(f).unlink(), "holds nothing, expected exactly one stack"),
    "only a text file": (lambda f: the_stack(f).rename(stack_folder(f) / "a.txt"), "holds 'a.txt'"),
    "two images": (lambda f: save_tiff(stack_folder(f) / "b.tiff", PAGES), "expected exactly one stack"),
    "a stack that is a folder": (
        lambda f: (the_stack(f).unlink(), (stack_folder(f) / "a.tif").mkdir()),
        "a.tif cannot be read: it is a folder",
    ),
    "a stack that is a link to nothing": (
        lambda f: (the_stack(f).unlink(), (stack_folder(f) / "a.tif").symlink_to("nothing")),
        "a.tif cannot be read: No such file",
    ),
    "a stack of a terabyte": (stack_of_a_terabyte, "holds 1099511627776 bytes"),
    "a bad stack whose name holds newlines": (
        lambda f: (the_stack(f).unlink(), (stack_folder(f) / "a\nb\r\n.tif").write_bytes(b"x")),
        "a b .tif is not a TIFF",
    ),
}


def refusal(folder: Path, output: Path) -> str:
    """Run a bad job: it must end in one sentence, without output, before a bundle is looked for."""
    (output / OUTPUT_NAME).write_text("the answer to an earlier job")
    with pytest.raises(JobError) as caught:
        job.run(folder, output, folder / "no bundle", "cpu")
    assert caught.value.exit_code == 2
    assert not list(output.iterdir())
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) <= 1000
    return message


@pytest.mark.parametrize("kind", BAD_JOBS)
def test_a_bad_job_is_one_sentence_and_no_output(make_job: Make, output: Path, kind: str) -> None:
    folder = make_job(PAGES)
    damage, message = BAD_JOBS[kind]
    damage(folder)
    assert message in refusal(folder, output)


@pytest.mark.parametrize("kind", BAD_STACKS)
def test_a_bad_stack_is_one_sentence_and_no_output(tmp_path: Path, output: Path, kind: str) -> None:
    name, (content, message) = name_of(kind), BAD_STACKS[kind]
    (write_job(tmp_path / "input", name) / name).write_bytes(content)
    found = refusal(tmp_path / "input", output)
    assert message in found
    assert name in found


@pytest.mark.parametrize("kind", UNUSUAL_STACKS)
def test_an_unusual_stack_is_read_pixel_for_pixel_and_in_silence(
    tmp_path: Path, kind: str, capfd: Capture
) -> None:
    content, expected = UNUSUAL_STACKS[kind]
    path = tmp_path / name_of(kind)
    path.write_bytes(content)
    with silence():
        read = stack.read_stack(path)
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, expected.reshape(-1, 128, 128, 3))
    assert capfd.readouterr() == ("", "")


def both(content: Any) -> Any:
    return [{**entry, "socket": {**entry["interface"], "is_image_kind": True}} for entry in content]


UNUSUAL_SOCKETS: dict[str, Callable[[str], bytes]] = {
    "UTF-8 with a byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "socket in place of interface": lambda text: text.replace('"interface"', '"socket"').encode(),
    "socket, and interface null": lambda text: text.replace(
        '"interface"', '"interface": null, "socket"'
    ).encode(),
    "socket and interface": lambda text: json.dumps(both(json.loads(text))).encode(),
}


@pytest.mark.parametrize("kind", UNUSUAL_SOCKETS)
def test_an_unusual_description_of_a_job_is_understood(make_job: Make, kind: str) -> None:
    folder = make_job(PAGES)
    file = sockets_file(folder)
    file.write_bytes(UNUSUAL_SOCKETS[kind](file.read_text()))
    (stack_folder(folder) / ".DS_Store").touch()  # no second stack
    assert job.find_stack(folder).name == "0f1e2d.tif"


def test_a_stack_of_any_name_is_scored(tmp_path: Path, make_bundle: Make, output: Path) -> None:
    name = os.fsdecode(b"-\xff\n\x1b[31m.tif")  # no UTF-8, a line break, a terminal's escape
    (write_job(tmp_path / "input", "a.tif") / name).write_bytes(PLAIN)
    command = [sys.executable, ROOT / "inference.py", "--input", tmp_path / "input", "--output", output]
    done = subprocess.run([*command, "--model", make_bundle()], capture_output=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(json.loads((output / OUTPUT_NAME).read_text())) == len(PAGES)
