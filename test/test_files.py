"""Files appear whole or not at all, whoever else writes the same one."""

import stat
from pathlib import Path

import pytest

from amf.errors import BundleError, DataError
from amf.files import write_text, written_whole


def test_the_file_appears_at_the_end_for_everybody_to_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with written_whole(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        assert partial.parent == path.parent, "a rename is atomic within one folder only"
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with written_whole(path) as first, written_whole(path) as second:
        first.write_text("1" * 100)
        second.write_text("2")
    assert path.read_text() == "1" * 100
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "before")

    def break_off() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_one_sentence_of_the_callers_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for kind in (DataError, BundleError):
        with pytest.raises(kind, match=r"below cannot be written: (Not a directory|File exists)"):
            write_text(tmp_path / "file" / "below", "text", kind)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder cannot be written: Is a directory"):
        write_text(tmp_path / "folder", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_a_name_as_long_as_the_file_system_allows_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 127)
    write_text(path, "text")
    assert path.read_text() == "text"
