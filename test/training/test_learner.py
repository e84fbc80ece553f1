"""Whatever moment a run is killed at, a whole checkpoint is left."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from amf.errors import DataError
from amf.training.learner import CHECKPOINT, PREVIOUS, load_checkpoint, save_checkpoint


def state(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "weights": {"a": torch.full((1000,), float(epoch))}, "history": [{"loss": 0.5}]}


def epoch_in(run: Path) -> int:
    loaded = load_checkpoint(run)
    assert loaded is not None
    assert torch.equal(loaded["weights"]["a"], state(loaded["epoch"])["weights"]["a"])
    return int(loaded["epoch"])


def test_the_newest_is_loaded_and_the_one_before_is_kept(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, state(epoch))
        assert epoch_in(tmp_path) == epoch
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, PREVIOUS}
    (tmp_path / CHECKPOINT).unlink()
    assert epoch_in(tmp_path) == 2


@pytest.mark.parametrize("kept", [0, 2000])
def test_a_truncated_one_gives_way_to_the_one_before_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:kept])
    assert epoch_in(tmp_path) == 1
    assert f"{path} is damaged" in capsys.readouterr().out


def test_where_both_are_damaged_the_run_must_start_anew(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, state(epoch))
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(DataError, match=r"no earlier checkpoint can be read: start the run anew"):
        load_checkpoint(tmp_path)


def test_one_of_another_format_is_refused_whatever_is_behind_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    torch.save(state(2), tmp_path / CHECKPOINT)  # as it was written before there were formats
    with pytest.raises(DataError, match=r"checkpoint\.pt has the format 1, expected 2: start the run anew"):
        load_checkpoint(tmp_path)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, state(1))
    assert (tmp_path / CHECKPOINT).stat().st_size > 4000
    with disk_of(4000), pytest.raises(DataError, match="cannot be written, the last good checkpoint stays"):
        save_checkpoint(tmp_path, state(2))
    assert epoch_in(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT}


@pytest.mark.parametrize("moment", range(3))
def test_a_kill_at_any_moment_of_saving_leaves_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed while the bytes are synced, before the first rename, and between the two."""
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    steps = [("os.fsync", 0), ("pathlib.Path.replace", 0), ("pathlib.Path.replace", 1)]
    name, passes = steps[moment]
    original, calls = Path.replace, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > passes:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(name, killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, state(3))
    assert epoch_in(tmp_path) == 2
    save_checkpoint(tmp_path, state(3))
    assert epoch_in(tmp_path) == 3
