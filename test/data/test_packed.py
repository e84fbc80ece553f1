"""Patches are packed row by row of their table, each once, or an image at fault is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from amf.data import packed
from amf.data.packed import UNUSABLE_IMAGE, open_packed, pack
from amf.data.patches import window_name
from amf.data.recipe import load_data_recipe
from amf.data.table import SAME_PIXELS, table_hash
from amf.errors import DataError
from test.support.drawn import draw_patches, drawn_table
from test.support.fixtures import Patch
from test.support.paths import ROOT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_row_i_of_the_array_is_row_i_of_the_table(root: Path, tmp_path: Path) -> None:
    table = drawn_table(20)
    expected = draw_patches(table, root)
    result = pack(table, root, tmp_path / "patches.npy", workers=5)
    np.testing.assert_array_equal(result.patches, expected)
    assert result.table_hash == table_hash(table)
    assert result.rows(table).equals(table)

    again = open_packed(tmp_path / "patches.npy")
    np.testing.assert_array_equal(again.patches, expected)
    assert (again.table_hash, again.sha256) == (result.table_hash, result.sha256)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["patches.json", "patches.npy", "root"]


def test_pixel_identical_patches_are_packed_once(root: Path, tmp_path: Path) -> None:
    table = drawn_table(8)
    expected = draw_patches(table, root)
    for copy in (3, 7):  # other bytes, the same pixels
        Image.fromarray(expected[1]).save(root / table["image"][copy], compress_level=9)
    result = pack(table, root, tmp_path / "patches.npy")
    kept = [0, 1, 2, 4, 5, 6]
    np.testing.assert_array_equal(result.patches, expected[kept])
    assert result.removed["image"].tolist() == table["image"][[3, 7]].tolist()
    assert set(result.removed["reason"]) == {SAME_PIXELS}
    rows = result.rows(table)
    assert rows["image"].tolist() == table["image"][kept].tolist()
    less = open_packed(tmp_path / "patches.npy").rows(rows)
    assert less.equals(rows), "the table less its duplicates fits as well"


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:2000]), "cannot be read: "),
        (lambda path: path.write_text("no image"), "is not an image that can be read"),
        (lambda path: Image.new("RGB", (64, 128)).save(path), "64 x 128 px, expected 128 x 128"),
        (lambda path: Image.new("I;16", (128, 128)).save(path), "16 bits a sample, expected 8-bit colour"),
    ],
)
def test_a_bad_image_is_an_error_or_listed(
    root: Path, tmp_path: Path, spoil: Callable[[Path], object], fault: str
) -> None:
    table, path = drawn_table(6), tmp_path / "patches.npy"
    expected = draw_patches(table, root)
    for row in (2, 4):
        spoil(root / table["image"][row])
    with pytest.raises(DataError) as caught:
        pack(table, root, path)
    for part in (str(root / table["image"][2]), "row 3 of the table", fault, "2 of 6 images"):
        assert part in str(caught.value)
    assert not list(tmp_path.glob("patches*"))

    result = pack(table, root, path, skip_bad=True)
    np.testing.assert_array_equal(result.patches, expected[[0, 1, 3, 5]])
    assert result.removed["image"].tolist() == table["image"][[2, 4]].tolist()
    assert set(result.removed["reason"]) == {UNUSABLE_IMAGE}
    assert result.removed["detail"].str.contains(fault).all()
    with pytest.raises(DataError, match="row 3 of the table"):
        pack(table, root, path)  # what was skipped once is not accepted in silence later


def test_no_usable_image_at_all_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the 4 images"):
        pack(drawn_table(4), root, tmp_path / "patches.npy", skip_bad=True)


def test_windows_of_one_image_are_decoded_together(root: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    root.mkdir()
    Image.fromarray(pixels).save(root / "1.tiff")
    table = drawn_table(3)
    table["image"] = [window_name("1.tiff", x, 100) for x in (70, 150, 230)]
    opened, original = [], packed.read_patches
    monkeypatch.setattr(packed, "read_patches", lambda *given: opened.append(given[0]) or original(*given))
    result = pack(table, root, tmp_path / "patches.npy")
    assert len(opened) == 1
    for patch, x in zip(result.patches, (70, 150, 230), strict=True):
        np.testing.assert_array_equal(patch, pixels[36:164, x - 64 : x + 64])
    table.loc[1, "image"] = window_name("1.tiff", 300, 100)
    outside = r"1\.tiff \(row 2 of the table\): \(300, 100\) lies outside .* is 300 x 200 px"
    with pytest.raises(DataError, match=outside):
        pack(table, root, tmp_path / "patches.npy")


def test_a_damaged_or_foreign_array_is_refused(root: Path, tmp_path: Path) -> None:
    table, path = drawn_table(4), tmp_path / "patches.npy"
    with pytest.raises(DataError, match=r"patches\.json: no such file"):
        open_packed(path)
    draw_patches(table, root)
    result = pack(table, root, path)
    with pytest.raises(DataError, match="packed from another table of 4 rows"):
        result.rows(table.iloc[::-1].reset_index(drop=True))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="SHA-256"):
        open_packed(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(DataError, match="not a packed array with its record"):
        open_packed(path)


@pytest.mark.soak
def test_the_public_patches_are_packed_row_by_row(shared_data: Path, patches: Path, tmp_path: Path) -> None:
    for name in ("AMi-Br", "AtNorM-MD"):
        (tmp_path / name).symlink_to(patches / name)
    for csv in shared_data.glob("*.csv"):
        (tmp_path / csv.name).symlink_to(csv)
    table = load_data_recipe(ROOT / "recipes" / "data-public.yaml").read(tmp_path).table
    result = pack(table, tmp_path, tmp_path / "out" / "patches.npy", workers=2)
    assert result.patches.shape == (5827, 128, 128, 3)
    assert not len(result.removed), "AMi-Br and AtNorM-MD share no patch"
    for row in (0, 3719, 3720, 5826):
        expected = np.asarray(Image.open(tmp_path / table["image"][row]))
        np.testing.assert_array_equal(result.patches[row], expected)
