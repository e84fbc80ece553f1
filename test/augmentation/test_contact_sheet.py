"""The contact sheet: every set is on it, and the command refuses what it cannot draw."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from amf import cli
from amf.augmentation.contact_sheet import CAPTION_PX, GAP_PX, draw_augmentations, read_examples
from amf.augmentation.sets import AUGMENTATIONS, MIXUPS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven drawn patches in two folders."""
    rng = np.random.default_rng(0)
    for i in range(7):
        path = tmp_path / "patches" / ("Atypical" if i < 3 else "Normal") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    return tmp_path / "patches"


def test_patches_are_spread_over_the_folders(folder):
    patches = read_examples(folder, 3)
    assert patches.shape == (3, 3, 32, 32)
    assert patches.dtype == torch.uint8
    for patch, name in zip(patches, ["Atypical/0.png", "Atypical/2.png", "Normal/4.png"], strict=True):
        assert np.array_equal(patch.permute(1, 2, 0).numpy(), np.asarray(Image.open(folder / name)))
    assert len(read_examples(folder, 100)) == 7


def test_a_sheet_has_a_row_for_each_set_and_shows_the_patches_themselves_first(folder):
    patches = read_examples(folder, 4)
    sheet = draw_augmentations(patches, 32, seed=1)
    assert sheet.tobytes() == draw_augmentations(patches, 32, seed=1).tobytes()
    assert sheet.tobytes() != draw_augmentations(patches, 32, seed=2).tobytes()
    rows = len(AUGMENTATIONS) + len(MIXUPS)
    assert sheet.size == (4 * (32 + GAP_PX) + GAP_PX, rows * (32 + GAP_PX + CAPTION_PX) + GAP_PX)
    pixels = np.asarray(sheet)
    top = GAP_PX + CAPTION_PX
    for i, patch in enumerate(patches):
        left = GAP_PX + i * (32 + GAP_PX)
        assert np.array_equal(pixels[top : top + 32, left : left + 32], patch.permute(1, 2, 0).numpy())
    # every cell of every row is painted
    for row in range(rows):
        y = row * (32 + GAP_PX + CAPTION_PX) + top
        assert all(pixels[y : y + 32, GAP_PX + i * 36 : GAP_PX + i * 36 + 32].std() > 5 for i in range(4))


def test_the_command_writes_a_png(folder, tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert cli.main(["augment", "--patches", str(folder), "--out", str(out), "--count", "3"]) == 0
    assert Image.open(out).size[0] == 3 * 36 + GAP_PX
    assert "3 patches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--count", "0"], "Invalid value for '--count': Input should be greater than or equal to 1"),
        (["--field-of-view-px", "33"], "--field-of-view-px is 33, expected 1 to the patches' 32 px"),
        (["--field-of-view-px", "-1"], "--field-of-view-px is -1"),
        (["--out", "file/sheet.png"], "file/sheet.png cannot be written"),
        (["--patches", "missing"], "missing holds no PNG file"),
        (["--patches", "unequal"], "b.png is 32 x 40 px, expected 32 x 32"),
        (["--patches", "damaged"], "a.png is not an image that can be read"),
    ],
)
def test_the_command_names_what_is_wrong(folder, tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for name in ("unequal", "damaged"):
        (tmp_path / name).mkdir()
    for name, height in (("a", 32), ("b", 40)):
        Image.new("RGB", (32, height)).save(tmp_path / "unequal" / f"{name}.png")
    (tmp_path / "damaged" / "a.png").write_bytes(b"not a picture")
    arguments = ["augment", "--patches", str(folder), "--out", "sheet.png", *flags]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
