"""A write of a bundle that is broken off, and little memory to score it in."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from amf import files
from amf.errors import BundleError
from amf.inference.predict import Predictor
from amf.model import bundle
from test.support.bundles import change, other_members, rewrite, scored
from test.support.paths import ROOT
from test.support.processes import in_a_child

Make = Callable[..., Path]


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


SCORE_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
import amf.inference.predict as predict
from amf.model import bundle

torch.set_num_threads(1)
pages = np.load(sys.argv[3])
predictor = predict.Predictor(bundle.load(Path(sys.argv[2])), "cpu")
predictor.logits(pages[:1])
sizes, score = [], predict.score
predict.score = lambda model, batches, *rest: (sizes.append(len(batches[0])), score(model, batches, *rest))[1]
(used,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:")]
limit = (used << 10) + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
np.save(sys.argv[3], predictor.logits(pages))
print(sizes)
"""


def test_short_memory_of_the_process_splits_the_batch_and_changes_nothing(
    make_bundle: Make, tmp_path: Path
) -> None:
    """A real limit: torch reports it in its own way, which no error raised by a test would show."""
    folder, path = make_bundle(), tmp_path / "pages.npy"
    change(folder, lambda content: content["members"][0]["image"].update(input_px=512))
    pages = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    expected = Predictor(bundle.load(folder), "cpu").logits(pages)
    np.save(path, pages)
    # One arena: address space that malloc reserves for a thread would count as used, and still be free.
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", SCORE_IN_LITTLE_MEMORY, ROOT, folder, path]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    sizes = json.loads(done.stdout)
    assert sizes[0] == 16
    assert sizes[-1] < 16
    np.testing.assert_allclose(np.load(path), expected, atol=1e-5)
