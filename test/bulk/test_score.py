"""Scoring many files: right, resumed after a kill, the same on any number of cores; bad files are listed."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from amf.bulk import parts
from amf.bulk import score as scoring
from amf.bulk.items import Item, find_items
from amf.bulk.run import open_scorer
from amf.bulk.shares import Share
from amf.cli import main as amf
from amf.errors import AccountingError, DataError
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.preprocess import to_input
from amf.model.views import views
from test.support.fixtures import Capture, Make, Pages, Patch
from test.support.jobs import save_tiff
from test.support.processes import amf_that_kills_itself

Predict = Callable[..., pd.DataFrame]


def lines(part: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in part.read_text().splitlines()]


def test_members_and_views_trade_accuracy_for_speed(make_bundle: Make, pages: Pages) -> None:
    model = make_bundle(members=3, views=8, temperature=2.0, bias=0.5)
    loaded = bundle.load(model)
    with torch.inference_mode():
        seen = list(views(to_input(torch.from_numpy(pages), loaded.spec.members[0].image), 8))
        logits = [torch.stack([member(view)[0] for view in seen]) for member in loaded.members]
    by_hand = torch.stack(logits).double().numpy()  # (3 members, 8 views, pages)
    for narrowed, expected in [
        ({}, by_hand.mean((0, 1))),
        ({"members": 1}, by_hand[0].mean(0)),
        ({"members": 1, "views": 2}, by_hand[0, :2].mean(0)),
        ({"members": 1, "views": 1}, by_hand[0, 0]),
        ({"members": 3, "views": 8}, by_hand.mean((0, 1))),
    ]:
        found = open_scorer(model, **narrowed).predictor.logits(pages)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(by_hand.mean((0, 1)) - by_hand[0].mean(0)).max() > 1e-3


def test_no_member_is_scored_in_more_views_than_it_ships_with(make_bundle: Make) -> None:
    whole = bundle.load(make_bundle(views=2))
    asked = {views: whole.narrowed(views=views).spec.members[0].views for views in (None, 1, 2, 8)}
    assert asked == {None: 2, 1: 1, 2: 2, 8: 2}


@pytest.mark.parametrize("members", ["0", "4", "-1"])
def test_members_that_a_bundle_has_not_are_refused(
    folder: Path, tmp_path: Path, make_bundle: Make, capsys: Capture, members: str
) -> None:
    flags = [str(folder), "--model", str(make_bundle(members=3)), "--output", str(tmp_path / "p.csv")]
    assert amf(["predict", *flags, f"--members={members}"]) == 3
    assert f"has 3 members, of which {members} cannot be taken" in capsys.readouterr().err


@pytest.mark.usefixtures("small_chunks")
def test_table_holds_what_the_predictor_says_of_each_file(
    folder: Path, tmp_path: Path, make_bundle: Make, predict: Predict
) -> None:
    model = make_bundle(temperature=2.0, threshold=0.4)
    table = predict(tmp_path / "p.csv", folder, model=model)

    header, first, *_ = (tmp_path / "p.csv").read_text().splitlines()
    assert header == "image,page,class,confidence,logit,threshold"
    assert first.startswith("00.png,,")  # nothing is quoted that need not be
    names = [item.image for item in find_items([str(folder)])]
    at = names.index("stack.tiff")
    assert table["image"].tolist() == names[:at] + ["stack.tiff"] * 3 + names[at + 1 :]
    assert table.loc[table["image"] == "stack.tiff", "page"].tolist() == [0, 1, 2]
    assert table["page"].notna().sum() == 3
    assert (table["threshold"] == 0.4).all()
    predictor = Predictor(bundle.load(model))
    for row in table.itertuples():
        with Image.open(folder / row.image) as image:
            image.seek(0 if np.isnan(row.page) else int(row.page))
            (alone,) = predictor.predict(np.array(image.convert("RGB"))[None])
        assert row.confidence == pytest.approx(alone.confidence, abs=1e-6)  # fp32, another batch size
        assert row.confidence == pytest.approx(1 / (1 + np.exp(-row.logit / 2.0)), abs=1e-12)
        assert (row[3] == "atypical") == (row.confidence >= 0.4)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("torn", [b"", b'{"chunk": 4, "rows": [{"number', b'{"chunk": 4}'])
def test_an_interrupted_run_goes_on_to_the_same_table(
    folder: Path, tmp_path: Path, predict: Predict, monkeypatch: Patch, capsys: Capture, torn: bytes
) -> None:
    predict(tmp_path / "whole.csv", folder)
    with Image.open(folder / "sub" / "13.png") as image:
        last = np.asarray(image)  # of the fifth chunk of six: 22 files, of which one counts as 16 pages
    original = Predictor.logits

    def fail_on_the_last(self: Predictor, patches: Pages) -> NDArray[np.float64]:
        if (patches == last).all((1, 2, 3)).any():
            raise KeyboardInterrupt
        return original(self, patches)

    part = Share().part(tmp_path / "p.csv")
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "logits", fail_on_the_last)
        predict(tmp_path / "p.csv", folder, code=130)
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"interrupted: {part} keeps what is scored")
    kept = {line.get("chunk") for line in lines(part)}
    assert kept in ({None, 0, 1, 2, 3}, {None, 0, 1, 2, 3, 5})  # all before the one that failed
    assert not (tmp_path / "p.csv").exists()
    with part.open("ab") as file:  # a line that a kill cut short
        file.write(torn)

    scored: list[int] = []
    monkeypatch.setattr(Predictor, "logits", lambda *given: scored.append(1) or original(*given))
    predict(tmp_path / "p.csv", folder)
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not part.exists()
    assert len(scored) == 2 - (5 in kept)  # the chunks done were not scored again


def test_a_killed_process_goes_on_to_the_same_table(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    images = tmp_path / "many"
    images.mkdir()
    for index in range(6 * parts.CHUNK_PAGES):
        os.link(folder / f"{index % 10 * 2:02}.png", images / f"{index:05}.png")
    command = ["predict", str(images), "--model", str(make_bundle()), "--output"]
    amf_that_kills_itself(1 + 2, [*command, str(tmp_path / "p.csv")])
    assert not (tmp_path / "p.csv").exists()
    assert 2 <= sum("chunk" in line for line in lines(Share().part(tmp_path / "p.csv"))) <= 4
    assert amf([*command, str(tmp_path / "p.csv")]) == 0
    assert amf([*command, str(tmp_path / "whole.csv")]) == 0
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_bad_files_are_reported_and_the_rest_is_scored(
    folder: Path, tmp_path: Path, predict: Predict, monkeypatch: Patch, capsys: object
) -> None:
    good = predict(tmp_path / "good.csv", folder)
    (folder / "05bad.png").write_bytes((folder / "00.png").read_bytes()[:2000])
    Image.new("RGB", (64, 128)).save(folder / "small.png")
    (folder / "bad.tiff").write_bytes(b"II*\0")
    for name in ("bug.png", "none.png"):
        (folder / name).write_bytes((folder / "00.png").read_bytes())
    original = Item.read

    def read(self: Item) -> NDArray[np.uint8]:
        if self.image == "bug.png":
            return 1 // 0  # whatever a reader raises is the fault of that file
        return original(self) if self.image != "none.png" else np.zeros((0, 128, 128, 3), np.uint8)

    monkeypatch.setattr(Item, "read", read)
    table = predict(tmp_path / "p.csv", folder, code=2)

    assert table["image"].tolist() == good["image"].tolist()
    np.testing.assert_allclose(table["logit"], good["logit"], atol=1e-5)  # in other batches
    errors = pd.read_csv(tmp_path / "p.errors.csv").set_index("image")["error"]
    assert [*errors.index] == ["05bad.png", "bad.tiff", "bug.png", "none.png", "small.png"]
    assert "ZeroDivisionError" in errors["bug.png"]
    assert "holds no page" in errors["none.png"]
    assert "64 x 128 px, expected 128 x 128" in errors["small.png"]
    last_line = capsys.readouterr().err.splitlines()[-1]
    listed = tmp_path / "p.errors.csv"
    assert last_line.startswith(f"5 of 27 files could not be scored and are listed in {listed}; the first is")

    (tmp_path / "p.csv").unlink()
    for name in errors.index:
        (folder / name).unlink()
    predict(tmp_path / "p.csv", folder)
    assert not listed.exists()


def test_a_file_lost_between_reading_and_scoring_is_a_bug_that_shows(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(scoring, "_rows", lambda *given: [])
    with pytest.raises(AccountingError, match="22 were given, but 0 used and 0 refused"):
        open_scorer(make_bundle()).score(find_items([str(folder)]), tmp_path / "p.csv")


def test_a_part_goes_on_with_the_same_inputs_alone(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: Patch
) -> None:
    items, predictor = find_items([str(folder)]), Predictor(bundle.load(make_bundle()))

    def score(items: list[Item] = items, digest: str = "digest", **more: bool) -> int:
        return scoring.score_share(items, predictor, digest, tmp_path / "p.csv", Share(), **more)

    assert score() == 22
    assert score() == 0  # done already
    with pytest.raises(DataError, match="was begun with other inputs"):
        score(items[1:])
    with pytest.raises(DataError, match="was begun with another bundle"):
        score(digest="digest members=1")
    with monkeypatch.context() as changed:
        changed.setattr(parts, "CHUNK_PAGES", 8)
        with pytest.raises(DataError, match="by another version"):
            score()
    before = (folder / "00.png").stat()
    content = (folder / "02.png").read_bytes().ljust(before.st_size, b"\0")[: before.st_size]
    os.utime(folder / "00.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(DataError, match="was begun with files that have changed since: delete it"):
        score()

    # The same size and time under another content: a hash alone tells.
    Share().part(tmp_path / "p.csv").unlink()
    assert score(by_content=True) == 22
    before = (folder / "00.png").stat()
    (folder / "00.png").write_bytes(content)
    os.utime(folder / "00.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match="files that have changed"):
        score(by_content=True)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cores", [1, 20])
def test_the_number_of_cores_changes_no_bit(
    folder: Path, tmp_path: Path, predict: Predict, monkeypatch: Patch, cores: int
) -> None:
    predict(tmp_path / "whole.csv", folder)
    seen: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    monkeypatch.setattr("amf.model.device.available_cores", lambda: cores)
    predict(tmp_path / "p.csv", folder)
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert seen[-1] == cores  # torch has its threads back


def test_stacks_are_read_at_once_in_silence(tmp_path: Path, predict: Predict, capfd: Capture) -> None:
    generator = np.random.default_rng(0)
    for number in range(40):
        save_tiff(tmp_path / f"{number}.tiff", generator.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8))
    (tmp_path / "bad.tiff").write_bytes(b"II*\0")
    predict(tmp_path / "p.csv", tmp_path / "*.tiff", code=2)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("1 of 41 files could not be scored")
