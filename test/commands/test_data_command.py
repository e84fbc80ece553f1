from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from amf.cli import main
from amf.data.overview import count_table, draw_examples
from amf.data.packed import open_packed
from amf.data.sources.base import Figure, table_of
from amf.data.table import read_table
from test.support.drawn import draw_patches, drawn_table
from test.support.fixtures import Capture

RECIPE = """
sources:
  - source: generic
    dataset: first
    labels: first.csv
    patches: a
    columns: {image: image, label: label, slide: slide, votes: [votes], domain: domain}
  - source: generic
    dataset: second
    labels: second.csv
    patches: b
    columns: {image: image, label: label, slide: slide}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two drawn data sets of eight and four patches; the second repeats a patch of the first."""
    root = tmp_path / "root"
    first, second = drawn_table(8, domains=2), drawn_table(4)
    pixels = draw_patches(first, root / "a")
    draw_patches(second, root / "b", seed=1)
    Image.fromarray(pixels[5]).save(root / "b" / second["image"][2])
    first.to_csv(root / "first.csv", index=False)
    second.to_csv(root / "second.csv", index=False)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return root


def run(root: Path, *options: str) -> int:
    out = root.parent / "out"
    return main(["data", str(root.parent / "recipe.yaml"), "--root", str(root), "--out", str(out), *options])


def test_amf_data_writes_everything_and_counts_it(root: Path, capsys: Capture) -> None:
    assert run(root) == 0
    out = root.parent / "out"
    table, packed = read_table(out / "table.csv"), open_packed(out / "patches.npy")
    assert packed.rows(table).equals(table)
    assert len(table) == 11
    removed = pd.read_csv(out / "table.removed.csv")
    assert removed["image"].tolist() == ["b/drawn/0002.png"]
    for name in ("contact-sheet.png", "prevalence.png"):
        with Image.open(out / name) as image:
            assert image.width > 500
    printed = capsys.readouterr().out
    assert "12 figures" in printed
    assert "After packing:\n11 figures" in printed
    assert "1 rows left out" in printed
    assert not list(out.glob("*.partial"))


def test_a_bad_image_ends_with_one_sentence(root: Path, capsys: Capture) -> None:
    (root / "a" / "drawn" / "0003.png").unlink()
    assert run(root) == 2
    captured = capsys.readouterr()
    assert "12 figures" in captured.out, "the label tables are counted all the same"
    assert captured.err.count("\n") == 1
    assert "a/drawn/0003.png (row 4 of the table): no such file" in captured.err
    assert not (root.parent / "out" / "table.csv").exists()

    assert run(root, "--skip-bad") == 0
    printed = capsys.readouterr().out
    assert "2 rows left out" in printed
    assert "unusable image" in printed


def test_counts_are_those_of_a_hand_count() -> None:
    rows = [("A", "s1", 1), ("A", "s1", 0), ("A", "s2", 0), ("B", "s3", 1)]
    named = [{"domain": domain, "slide": slide, "label": label} for domain, slide, label in rows]
    figures = [Figure(image=f"{i}.png", dataset="D", **row) for i, row in enumerate(named)]
    counts = count_table(table_of(figures), "domain")
    assert counts.to_dict("index") == {
        "A": {"figures": 3, "AMF": 1, "AMF %": 33.3, "slides": 2},
        "B": {"figures": 1, "AMF": 1, "AMF %": 100.0, "slides": 1},
        "total": {"figures": 4, "AMF": 2, "AMF %": 50.0, "slides": 3},
    }


def test_the_contact_sheet_shows_each_class_on_its_side(tmp_path: Path) -> None:
    table = drawn_table(40, domains=2)
    patches = np.zeros((40, 128, 128, 3), dtype=np.uint8)
    patches[table["label"] == 1, :, :, 0] = 200
    patches[table["label"] == 0, :, :, 2] = 200
    draw_examples(table, patches, tmp_path / "sheet.png", examples=2)
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    middle = sheet.shape[1] // 2
    red, blue = (sheet == [200, 0, 0]).all(axis=2), (sheet == [0, 0, 200]).all(axis=2)
    assert red[:, :middle].sum() == blue[:, middle:].sum() == 2 * 2 * 128 * 128
    assert not red[:, middle:].any()
    assert not blue[:, :middle].any()
