"""What may lie in the place of a bundle's files, what may end a write, and what little memory may do."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from amf import files
from amf.errors import BundleError
from amf.model import bundle, digest
from amf.model.digest import FILE_NAME, file_digest
from test.support.bundles import change, other_members, refused, rewrite, scored, weights_of
from test.support.jobs import run_inference
from test.support.paths import ROOT
from test.support.processes import in_a_child

Make = Callable[..., Path]
Pages = NDArray[np.uint8]

TERABYTE = 1 << 40


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(TERABYTE)


IN_ITS_PLACE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: None,
    "an empty file": Path.touch,
    "a folder": Path.mkdir,
    "a pipe": os.mkfifo,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a file without end": sparse,
    "a circle of links": lambda path: path.symlink_to(path),
}


@pytest.fixture
def ten_seconds() -> Iterator[None]:
    """A test that waits for a pipe's writer would wait for ever."""

    def end(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, end)
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("ten_seconds")
@pytest.mark.parametrize("of", ["description", "weights"])
@pytest.mark.parametrize("kind", IN_ITS_PLACE)
def test_what_is_no_file_of_a_bundle_is_refused_unread(make_bundle: Make, kind: str, of: str) -> None:
    folder = make_bundle()
    path = folder / FILE_NAME if of == "description" else weights_of(folder)
    path.unlink()
    IN_ITS_PLACE[kind](path)
    digest.begin(folder)  # as the entry point does
    assert str(path) in refused(folder)


@pytest.mark.parametrize("kind", ["a pipe", "a device without end", "a file without end"])
def test_the_entry_point_refuses_endless_weights_at_once(
    make_job: Make, make_bundle: Make, tmp_path: Path, pages: Pages, kind: str
) -> None:
    folder = make_bundle()
    weights = weights_of(folder)
    weights.unlink()
    IN_ITS_PLACE[kind](weights)
    done = run_inference(
        "--input", make_job(pages), "--output", tmp_path, "--model", folder, "--device", "cpu"
    )
    assert done.returncode == 3
    assert done.stderr.startswith(str(weights))
    assert done.stderr.count("\n") == 1


def test_only_what_the_description_names_is_hashed(
    make_job: Make, make_bundle: Make, tmp_path: Path, pages: Pages
) -> None:
    """A pipe, a device and a terabyte lie beside the bundle's weights and are nobody's business."""
    folder = make_bundle()
    os.mkfifo(folder / "a.safetensors")
    (folder / "b.safetensors").symlink_to("/dev/zero")
    sparse(folder / "c.safetensors")
    digest.begin(folder)
    assert digest._begun.keys() == {weights_of(folder)}
    scored(folder)
    done = run_inference(
        "--input", make_job(pages), "--output", tmp_path, "--model", folder, "--device", "cpu"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b'{"members": 1}', b'{"members": [{"weights": ["x"]}]}', b"[" * 10**6]
)
def test_hashing_begins_with_nothing_where_the_description_is_none(make_bundle: Make, damage: bytes) -> None:
    folder = make_bundle()
    (folder / FILE_NAME).write_bytes(damage)
    digest.begin(folder)
    assert not digest._begun


def test_weights_are_parsed_after_their_hash_is_right(
    make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, parsed = make_bundle(), []

    def parse(path: Path) -> dict[str, torch.Tensor]:
        parsed.append(path)
        return load_file(path)

    monkeypatch.setattr(bundle, "_read_tensors", parse)
    weights = weights_of(folder)
    bundle.load(folder)
    assert parsed == [weights]
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert "damaged or replaced" in refused(folder)
    assert parsed == [weights]


def test_weights_larger_than_their_network_are_refused_by_their_size(make_bundle: Make) -> None:
    folder = make_bundle()
    weights = weights_of(folder)
    tensors = load_file(weights) | {"more": torch.zeros(10**7)}
    save_file(tensors, weights)
    sha256 = file_digest(weights)
    change(folder, lambda content: content["members"][0].update(sha256=sha256))
    assert "more than its network has" in refused(folder)


# A write is killed -----------------------------------------------------------------------------------------


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_killed_at_every_line_of_a_write_the_bundle_is_the_old_or_the_new(
    make_bundle: Make, tmp_path: Path, step: int
) -> None:
    original, folder = make_bundle(members=2), tmp_path / "rewritten"
    members = other_members(original, 1)  # not in the child, which has none of torch's threads

    def rewrite_and_die_at(line: int) -> None:
        passed = 0

        def count(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal passed
            passed += event == "line" and frame.f_code.co_filename in (bundle.__file__, files.__file__)
            if passed == line:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        sys.settrace(count)
        rewrite(folder, members, "new")
        sys.settrace(None)

    seen = []
    for line in range(1, 1000, step):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(original, folder)
        if (code := in_a_child(partial(rewrite_and_die_at, line))) == 0:
            break
        assert code == -signal.SIGKILL
        seen.append(bundle.load(folder).spec.name)
    assert set(seen) == {"bundle", "new"}
    assert seen == sorted(seen)  # once new, never old again
    assert seen.count("bundle") > 50 / step


WRITE_FOR_EVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test.support.bundles import other_members, rewrite
folder = Path(sys.argv[2])
choices = [other_members(folder, seed) for seed in range(10)]
print("begun", flush=True)
while True:
    for seed, members in enumerate(choices):
        rewrite(folder, members, f"bundle {seed}")
"""


def test_killed_at_any_moment_of_many_writes_the_bundle_is_whole(make_bundle: Make) -> None:
    folder = make_bundle(members=2)
    generator = np.random.default_rng(0)
    for _ in range(3):
        command = [sys.executable, "-c", WRITE_FOR_EVER, ROOT, folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(generator.uniform(0.05, 0.5))
        process.kill()
        process.communicate()
        assert bundle.load(folder).spec.name.startswith("bundle ")
    rewrite(folder, other_members(folder, 11), "last")
    assert len([path for path in folder.iterdir() if "member" in path.name]) == 2  # no leftovers


def test_a_disk_that_fills_up_leaves_the_earlier_bundle(make_bundle: Make) -> None:
    folder = make_bundle(members=2)
    before, members = content_of(folder), other_members(folder, 1)

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        with pytest.raises(BundleError, match="cannot be written"):
            rewrite(folder, members, "new")

    assert in_a_child(write) == 0
    assert content_of(folder) == before
    assert len(scored(folder)) == 2


# Memory ----------------------------------------------------------------------------------------------------

SCORE_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
import amf.inference.predict as predict
from amf.errors import BundleError
from amf.model import bundle

torch.set_num_threads(1)
pages = np.load(sys.argv[3])
predictor = predict.Predictor(bundle.load(Path(sys.argv[2])), "cpu")
predictor.logits(pages[:1])
sizes, score = [], predict.score
predict.score = lambda model, batches, *rest: (sizes.append(len(batches[0])), score(model, batches, *rest))[1]
(used,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:")]
limit = (used << 10) + (int(sys.argv[4]) << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    logits = predictor.logits(pages)
except BundleError as error:
    print(sizes, error)
    raise SystemExit(error.exit_code)
np.save(sys.argv[3], logits)
print(sizes)
"""


def score_within(megabytes: int, folder: Path, pages: Pages, tmp_path: Path) -> tuple[int, str, Path]:
    path = tmp_path / "pages.npy"
    np.save(path, pages)
    command = [sys.executable, "-c", SCORE_IN_LITTLE_MEMORY, ROOT, folder, path, str(megabytes)]
    # One arena: address space that malloc reserves for a thread would count as used, and still be free.
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.stderr == ""
    return done.returncode, done.stdout, path


def test_short_memory_of_the_process_splits_the_batch_and_changes_nothing(
    make_bundle: Make, tmp_path: Path
) -> None:
    """A real limit: torch reports it in its own way, which no error raised by a test would show."""
    folder = make_bundle()
    change(folder, lambda content: content["members"][0]["image"].update(input_px=512))
    pages = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    expected = scored_logits(folder, pages)
    code, said, path = score_within(100, folder, pages, tmp_path)
    assert code == 0, said
    sizes = [int(size) for size in said.strip("[]\n").split(",")]
    assert sizes[0] == 16
    assert sizes[-1] < 16
    np.testing.assert_allclose(np.load(path), expected, atol=1e-5)


def test_a_page_that_does_not_fit_into_memory_is_one_sentence(make_bundle: Make, tmp_path: Path) -> None:
    folder = make_bundle()
    change(folder, lambda content: content["members"][0]["image"].update(input_px=1024))
    pages = np.zeros((4, 128, 128, 3), np.uint8)
    code, said, _ = score_within(4, folder, pages, tmp_path)
    assert code == 3
    assert said.count("\n") == 1
    assert "cannot score an image of 1024 x 1024 px" in said
    assert "memory" in said


def scored_logits(folder: Path, pages: Pages) -> NDArray[np.float64]:
    from amf.inference.predict import Predictor

    return Predictor(bundle.load(folder), "cpu").logits(pages)
