"""Scoring many files: found, resumed after a kill, sharded, and honest about the bad ones."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from amf.bulk import merge as merging
from amf.bulk import parts, ranks
from amf.bulk import score as scoring
from amf.bulk.items import Item, find_items
from amf.bulk.run import open_predictor
from amf.cli import main as amf
from amf.errors import DataError
from amf.evaluation import predictions
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.preprocess import to_input
from amf.model.views import views
from test.support.jobs import save_tiff
from test.support.paths import ROOT
from test.support.processes import amf_that_ends_itself

Make = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """21 patches and one stack of 3 pages below `images`, distinct noise each."""
    generator = np.random.default_rng(0)
    images = tmp_path / "images"
    (images / "sub").mkdir(parents=True)
    for number in range(21):
        path = images / ("sub" if number % 2 else "") / f"{number:02}.png"
        Image.fromarray(generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(
            path, compress_level=1
        )
    save_tiff(images / "stack.tiff", generator.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8))
    return images


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "CHUNK_PAGES", 4)
    monkeypatch.setattr(scoring, "BATCH_PATCHES", 3)


def predict(model: Path, output: Path, *inputs: Path | str, code: int = 0) -> pd.DataFrame:
    assert amf(["predict", *map(str, inputs), "--model", str(model), "--output", str(output)]) == code
    return pd.read_csv(output)


def test_find_items_names_images_relative_to_their_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("nor this")

    items = find_items([str(folder)]).items

    assert len(items) == 22
    assert items[0] == Item("00.png", folder / "00.png")
    assert {item.image for item in items} >= {"sub/01.png", "stack.tiff"}
    assert all(item.path.is_file() for item in items)


def test_find_items_takes_globs_files_and_tables(folder: Path, tmp_path: Path) -> None:
    assert len(find_items([str(folder / "**" / "*.png")]).items) == 21
    assert [item.path for item in find_items([str(folder / "00.png")]).items] == [folder / "00.png"]
    table = pd.DataFrame(
        {"image": ["00.png", "sub/01.png"], "label": [0, 1], "slide": ["007", None], "x": [1, 2]}
    )
    for name in ("t.csv", "t.parquet"):
        path = tmp_path / name
        table.to_csv(path, index=False) if name == "t.csv" else table.to_parquet(path)
        items = find_items([str(path)], root=folder).items
        assert items[0] == Item("00.png", folder / "00.png", {"label": 0, "slide": "007"})
        assert items[1].truth == {"label": 1, "slide": None}


def test_find_items_refuses(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pd.DataFrame({"file": ["a"]}).to_csv(tmp_path / "t.csv", index=False)
    for given, message in [
        (["absent.png"], "absent.png is, holds or matches no image"),
        ([str(tmp_path / "empty")], "empty is, holds or matches no image"),
        ([str(folder), str(folder)], "a second image is named '00.png'"),
        ([str(tmp_path / "t.csv")], "has the columns file; expected 'image'"),
    ]:
        with pytest.raises(DataError, match=message):
            find_items(given)


def test_inputs_of_different_columns_are_refused(folder: Path, tmp_path: Path) -> None:
    pd.DataFrame({"image": ["images/00.png"], "label": [0]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match="expected inputs with the same columns"):
        find_items([str(tmp_path / "t.csv"), str(folder)])


def test_members_and_views_trade_accuracy_for_speed(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    model = make_bundle(members=3, views=8, temperature=2.0, bias=0.5)

    def logits(name: str, *flags: str) -> NDArray[np.float64]:
        return predict(model, tmp_path / name, folder / "stack.tiff", *flags)["logit"].to_numpy()

    with Image.open(folder / "stack.tiff") as image:
        pages = np.stack([np.array(page.convert("RGB")) for page in ImageSequence.Iterator(image)])
    loaded = bundle.load(model)
    first = loaded.members[0]
    with torch.inference_mode():
        seen = list(views(to_input(torch.from_numpy(pages), loaded.spec.members[0].image), 8))
        by_hand = torch.stack([first(view)[0] for view in seen]).double().numpy()  # (8, pages)
    np.testing.assert_allclose(logits("a.csv", "--members=1", "--views=1"), by_hand[0], atol=1e-5)
    np.testing.assert_allclose(logits("b.csv", "--members=1", "--views=2"), by_hand[:2].mean(0), atol=1e-5)
    np.testing.assert_allclose(logits("c.csv", "--members=1"), by_hand.mean(0), atol=1e-5)
    whole = logits("d.csv")
    assert np.abs(whole - by_hand.mean(0)).max() > 1e-3
    np.testing.assert_allclose(logits("e.csv", "--members=3", "--views=8"), whole)


def test_no_member_is_scored_in_more_views_than_it_ships_with(make_bundle: Make) -> None:
    whole = bundle.load(make_bundle(views=2))
    asked = {views: whole.narrowed(views=views).spec.members[0].views for views in (None, 1, 2, 8)}
    assert asked == {None: 2, 1: 1, 2: 2, 8: 2}


@pytest.mark.parametrize("members", ["0", "4", "-1"])
def test_members_that_a_bundle_has_not_are_refused(
    folder: Path, tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str], members: str
) -> None:
    flags = [str(folder), "--model", str(make_bundle(members=3)), "--output", str(tmp_path / "p.csv")]
    assert amf(["predict", *flags, f"--members={members}"]) == 3
    assert f"has 3 members, of which {members} cannot be taken" in capsys.readouterr().err


def test_a_narrowed_run_does_not_go_on_with_a_whole_one(
    folder: Path, tmp_path: Path, make_bundle: Make
) -> None:
    folder_of_bundle = make_bundle(members=2)
    _, whole = open_predictor(folder_of_bundle, "cpu")
    predictor, narrowed = open_predictor(folder_of_bundle, "cpu", members=1)
    output, items = tmp_path / "p.csv", find_items([str(folder)]).items
    scoring.score_items(items, predictor, narrowed, output)
    with pytest.raises(DataError):
        scoring.score_items(items, predictor, whole, output)


@pytest.mark.usefixtures("small_chunks")
def test_table_holds_what_the_predictor_says_of_each_file(
    folder: Path, tmp_path: Path, make_bundle: Make
) -> None:
    model = make_bundle(temperature=2.0, threshold=0.4)
    table = predict(model, tmp_path / "p.csv", folder)

    assert table.columns.tolist() == ["image", "page", "class", "confidence", "logit"]
    names = [item.image for item in find_items([str(folder)]).items]
    at = names.index("stack.tiff")
    assert table["image"].tolist() == names[:at] + ["stack.tiff"] * 3 + names[at + 1 :]
    assert table.loc[table["image"] == "stack.tiff", "page"].tolist() == [0, 1, 2]
    assert table["page"].notna().sum() == 3
    predictor = Predictor(bundle.load(model))
    for row in table.itertuples():
        with Image.open(folder / row.image) as image:
            image.seek(0 if np.isnan(row.page) else int(row.page))
            pixels = np.array(image.convert("RGB"))
        (alone,) = predictor.predict(pixels[None])
        assert row.confidence == pytest.approx(alone.confidence, abs=1e-6)  # fp32, another batch size
        assert row.confidence == pytest.approx(1 / (1 + np.exp(-row.logit / 2.0)), abs=1e-12)
        assert (row[3] == "atypical") == (row.confidence >= 0.4)


@pytest.mark.usefixtures("small_chunks")
def test_formats_hold_the_same(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    model = make_bundle()
    expected = predict(model, tmp_path / "p.csv", folder)
    for name, read in [("p.parquet", pd.read_parquet), ("p.json", pd.read_json)]:
        assert amf(["predict", str(folder), "--model", str(model), "--output", str(tmp_path / name)]) == 0
        found = read(tmp_path / name)
        pd.testing.assert_frame_equal(found.astype({"page": float}), expected, check_exact=name != "p.json")


def test_predicted_table_can_be_evaluated(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    names = [f"images/{'sub/' if k % 2 else ''}{k:02}.png" for k in range(21)]
    labels = [k % 3 == 0 for k in range(21)]
    patches = pd.DataFrame(
        {"image": names, "label": np.array(labels, dtype=int), "slide": "s", "domain": "d"}
    )
    patches.to_csv(tmp_path / "patches.csv", index=False)

    for name in ("p.csv", "p.parquet", "p.json"):
        output = tmp_path / name
        command = [
            "predict",
            str(tmp_path / "patches.csv"),
            "--model",
            str(make_bundle()),
            "--output",
            str(output),
        ]
        assert amf(command) == 0
        figures = predictions.read(output).figures
        assert figures["label"].tolist() == labels
        assert set(figures["slide"]) == {"s"}
        assert set(figures["domain"]) == {"d"}


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("torn", [b"", b'{"rows": [[0, 0, 1.', b'{"rows": []}'])
def test_broken_run_goes_on_to_the_same_table(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, torn: bytes
) -> None:
    model = make_bundle()
    predict(model, tmp_path / "whole.csv", folder)

    with Image.open(folder / "sub" / "13.png") as image:
        last = np.asarray(image)  # of the fifth chunk: 22 files are six of 4, or of 2
    calls = 0
    original = Predictor.logits

    def fail_on_the_last(self: Predictor, patches: NDArray[np.uint8]) -> NDArray[np.float64]:
        nonlocal calls
        calls += 1
        if last is not None and (patches == last).all((1, 2, 3)).any():
            raise KeyboardInterrupt
        return original(self, patches)

    monkeypatch.setattr(Predictor, "logits", fail_on_the_last)
    command = ["predict", str(folder), "--model", str(model), "--output", str(tmp_path / "p.csv")]
    assert amf(command) == 130
    part = parts.part_path(tmp_path / "p.csv", 0, 1)
    assert part.read_bytes().count(b"\n") == 1 + 4  # the header, and all chunks before the one that failed
    assert not (tmp_path / "p.csv").exists()
    with part.open("ab") as file:  # a line that a kill cut short
        file.write(torn)

    last, calls = None, 0
    assert amf(command) == 0

    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not part.exists()
    assert calls == 2 + 1  # batches of 3: the chunks done were not scored again


def test_killed_process_goes_on_to_the_same_table(tmp_path: Path, make_bundle: Make) -> None:
    generator = np.random.default_rng(0)
    drawn = []
    for number in range(8):
        drawn.append(tmp_path / f"drawn{number}.png")
        Image.fromarray(generator.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(
            drawn[-1], compress_level=1
        )
    images = tmp_path / "images"
    images.mkdir()
    for number in range(16 * parts.CHUNK_PAGES):
        os.link(drawn[number % 8], images / f"{number:05}.png")
    model = make_bundle()
    output = tmp_path / "p.csv"
    command = [sys.executable, "-m", "amf", "predict", str(images), "--model", str(model)]
    killed = amf_that_ends_itself(signal.SIGKILL, 2, [*command[3:], "--output", str(output)])
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    assert parts.line_count(parts.part_path(output, 0, 1)) == 1 + 2

    again = subprocess.run(
        [*command, "--output", str(output)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    subprocess.run(
        [*command, "--output", str(tmp_path / "whole.csv")], cwd=ROOT, check=True, capture_output=True
    )

    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    scored_again = int(again.stdout.split("scored ")[1].split()[0])
    assert scored_again == 14 * parts.CHUNK_PAGES


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("world", [2, 3, 9])  # 22 files are 6 chunks: some of the nine ranks have none
def test_ranks_share_the_work_and_rank_0_merges(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, world: int
) -> None:
    model = make_bundle()
    predict(model, tmp_path / "whole.csv", folder)
    output = tmp_path / "p.csv"
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.0)  # they run one after another: none waits for another
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.0)
    monkeypatch.setenv("WORLD_SIZE", str(world))
    for rank in reversed(range(world)):
        assert not output.exists()
        monkeypatch.setenv("RANK", str(rank))
        code = amf(["predict", str(folder), "--model", str(model), "--output", str(output)])
        assert code == (2 if rank else 0)  # 0 means that the table is there

    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert list(tmp_path.glob("*.partial")) == []


def test_ranks_that_run_at_once_wait_for_the_table(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    command = [sys.executable, "-m", "amf", "predict", str(folder), "--model", str(make_bundle())]
    command += ["--output", str(tmp_path / "p.csv")]
    running = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "3"})
        for rank in range(3)
    ]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert len(pd.read_csv(tmp_path / "p.csv")) == 24
    assert list(tmp_path.glob("*.partial")) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"WORLD_SIZE": "4"}, "RANK unset and WORLD_SIZE 4"),
        ({"RANK": "1"}, "RANK 1 and WORLD_SIZE unset"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "0 <= RANK < WORLD_SIZE"),
        ({"RANK": "first", "WORLD_SIZE": "4"}, "RANK first"),
        ({"RANK": "0", "WORLD_SIZE": "4"}, "rank 0 of 4 is through, but others have not scored their share"),
        ({"RANK": "3", "WORLD_SIZE": "4"}, "p.csv is not there, and no other rank is at work"),
    ],
)
def test_a_leftover_world_size_is_an_error_without_a_table(
    folder: Path,
    tmp_path: Path,
    make_bundle: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: dict[str, str],
    message: str,
) -> None:
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.05)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    command = ["predict", str(folder), "--model", str(make_bundle()), "--output", str(tmp_path / "p.csv")]
    assert amf(command) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_a_rank_that_is_at_work_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "GRACE_SECONDS", 0.1)
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.01)
    part, started = tmp_path / "part", time.monotonic()
    with ranks.held(part):
        assert ranks.is_held(part)
        ranks.wait(lambda: time.monotonic() - started > 0.5, [part], "nothing is missing")
    assert not ranks.is_held(part)
    with pytest.raises(DataError, match="no other rank is at work"):
        ranks.wait(lambda: False, [part], "something is missing")


def test_two_runs_for_one_output_do_not_mix(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    predictor, items = Predictor(bundle.load(make_bundle())), find_items([str(folder)]).items
    with (
        ranks.held(parts.part_path(tmp_path / "p.csv", 0, 1)),
        pytest.raises(DataError, match="is being written by another process"),
    ):
        scoring.score_items(items, predictor, "digest", tmp_path / "p.csv")


def test_parts_of_different_inputs_are_not_merged(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "CHUNK_PAGES", 4)
    predictor, items = Predictor(bundle.load(make_bundle())), find_items([str(folder)]).items
    for rank, digest in enumerate(("one", "another")):
        scoring.score_items(items, predictor, digest, tmp_path / "p.csv", rank, 2)
    with pytest.raises(DataError, match="were begun with different inputs"):
        merging.merge(items, predictor, tmp_path / "p.csv", 0, 2)
    assert not (tmp_path / "p.csv").exists()


def test_a_kill_in_the_middle_of_the_merge_leaves_no_table(
    folder: Path, tmp_path: Path, make_bundle: Make
) -> None:
    code = """
import os, sys
from amf.bulk import merge
from amf.cli import main
merge._row = lambda *given: os.kill(os.getpid(), 9)
main(sys.argv[1:])
"""
    command = ["predict", str(folder), "--model", str(make_bundle()), "--output", str(tmp_path / "p.csv")]
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "p.csv").exists()
    assert amf(command) == 0
    assert len(pd.read_csv(tmp_path / "p.csv")) == 24


@pytest.mark.usefixtures("small_chunks")
def test_bad_files_are_reported_and_the_rest_is_scored(
    folder: Path, tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_bundle()
    good = predict(model, tmp_path / "good.csv", folder)
    (folder / "05bad.png").write_bytes((folder / "00.png").read_bytes()[:2000])
    Image.new("RGB", (64, 128)).save(folder / "small.png")
    (folder / "text.png").write_text("no picture")
    (folder / "bad.tiff").write_bytes(b"II*\0")

    table = predict(model, tmp_path / "p.csv", folder, code=2)

    assert table["image"].tolist() == good["image"].tolist()
    np.testing.assert_allclose(table["logit"], good["logit"], atol=1e-5)  # in other batches
    errors = pd.read_csv(tmp_path / "p.errors.csv")
    assert set(errors["image"]) == {"05bad.png", "small.png", "text.png", "bad.tiff"}
    assert "64 x 128 px, expected 128 x 128" in errors.set_index("image").loc["small.png", "error"]
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert last_line.startswith(
        f"4 of 26 files could not be scored and are listed in {tmp_path / 'p.errors.csv'}"
    )


def test_part_of_another_run_is_refused(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    items = find_items([str(folder)]).items
    predictor = Predictor(bundle.load(make_bundle()))
    assert scoring.score_items(items, predictor, "digest", tmp_path / "p.csv") == 22
    assert scoring.score_items(items, predictor, "digest", tmp_path / "p.csv") == 0  # done already
    for changed, digest, found in [
        (items[1:], "digest", "other inputs"),
        (items, "of another", "another bundle"),
    ]:
        with pytest.raises(DataError, match=f"was begun with {found}"):
            scoring.score_items(changed, predictor, digest, tmp_path / "p.csv")


def test_a_file_that_changed_under_its_name_is_not_resumed(
    folder: Path, tmp_path: Path, make_bundle: Make
) -> None:
    items = find_items([str(folder)]).items
    predictor, path = Predictor(bundle.load(make_bundle())), folder / "00.png"
    for name, by_content in (("p.csv", False), ("by-content.csv", True)):
        scoring.score_items(items, predictor, "digest", tmp_path / name, by_content=by_content)
    before = path.stat()
    path.write_bytes((folder / "02.png").read_bytes())
    with pytest.raises(DataError, match="begun before one of the files changed"):
        scoring.score_items(items, predictor, "digest", tmp_path / "p.csv")

    # The same size and time under another content: a hash alone tells.
    changed = bytearray((folder / "02.png").read_bytes().ljust(before.st_size, b"\0")[: before.st_size])
    path.write_bytes(changed)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scoring.score_items(items, predictor, "digest", tmp_path / "p.csv") == 0
    with pytest.raises(DataError, match="begun before one of the files changed"):
        scoring.score_items(items, predictor, "digest", tmp_path / "by-content.csv", by_content=True)


def test_part_of_other_chunks_is_refused(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = find_items([str(folder)]).items
    predictor = Predictor(bundle.load(make_bundle()))
    scoring.score_items(items, predictor, "digest", tmp_path / "p.csv")
    monkeypatch.setattr(parts, "CHUNK_PAGES", 8)
    with pytest.raises(DataError, match="by another version"):
        scoring.score_items(items, predictor, "digest", tmp_path / "p.csv")


def test_a_bounded_number_of_chunks_waits_to_be_written(
    folder: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, taken = Predictor(bundle.load(make_bundle())), 0
    items = [Item("00.png", folder / "00.png")] * 100

    class Chunks(list[range]):
        def __iter__(self) -> Iterator[range]:
            nonlocal taken
            for taken in range(1, 101):
                yield range(taken - 1, taken)

    with scoring.ThreadPoolExecutor(2) as pool, scoring.tqdm(disable=True) as bar:
        results = scoring._score_in_order(items, Chunks(), predictor, pool, bar, threading.Event())
        for given, (rows, faults) in enumerate(results, start=1):
            assert [index for index, _, _ in rows] == [given - 1]
            assert faults == []
            assert taken - given <= scoring.MAX_WORKERS
    assert given == 100


def test_torch_has_its_threads_back(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        predict(make_bundle(), tmp_path / "p.csv", folder)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("cores", [1, 2, 5, 20])
def test_the_number_of_cores_changes_no_bit(
    folder: Path, tmp_path: Path, make_bundle: Make, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    model = make_bundle()
    predict(model, tmp_path / "whole.csv", folder)
    seen = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    predict(model, tmp_path / "p.csv", folder)
    assert (tmp_path / "p.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert set(seen) == {max(1, cores // scoring.MAX_WORKERS), cores}


@pytest.mark.parametrize(
    ("device", "cores", "workers", "threads"),
    [("cpu", 1, 1, 1), ("cpu", 2, 2, 1), ("cpu", 20, 8, 2), ("cuda", 1, 8, 1), ("cuda", 20, 8, 2)],
)
def test_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, workers: int, threads: int
) -> None:
    seen = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    together = threading.Barrier(workers + 1, timeout=10)  # broken unless so many run at once
    with scoring._workers(torch.device(device)) as pool:
        waiting = [pool.submit(together.wait) for _ in range(workers)]
        together.wait()
        assert len([future.result() for future in waiting]) == workers
    assert seen == [threads] * workers + [cores]


def test_stderr_outlives_stacks_that_are_read_at_once(tmp_path: Path, make_bundle: Make) -> None:
    generator = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for number in range(100):
        save_tiff(images / f"{number}.tiff", generator.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8))
    (images / "bad.tiff").write_bytes(b"II*\0")
    command = ["predict", str(images), "--model", str(make_bundle()), "--output", str(tmp_path / "p.csv")]
    done = subprocess.run([sys.executable, "-m", "amf", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "1 of 101 files could not be scored" in done.stderr.splitlines()[-1]


def test_command_refuses_before_it_works(
    folder: Path, tmp_path: Path, make_bundle: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there.csv").write_text("")
    model = str(make_bundle())
    for output, used, code, message in [
        ("there.csv", model, 2, "exists already"),
        ("p.xlsx", model, 2, "expected a name in .csv, .parquet, .json"),
        ("p.csv", str(tmp_path / "none"), 3, "bundle.json cannot be read"),
    ]:
        assert amf(["predict", str(folder), "--model", used, "--output", str(tmp_path / output)]) == code
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


def test_chunks_hold_as_many_pages_whatever_the_files() -> None:
    def chunks(*names: str) -> list[list[int]]:
        return [list(chunk) for chunk in parts.chunks_of([Item(name, Path(name)) for name in names])]

    assert chunks() == []
    assert list(map(len, chunks(*["a.png"] * 200))) == [64, 64, 64, 8]
    assert list(map(len, chunks(*["a.tif"] * 9))) == [4, 4, 1]
    mixed = chunks(*["a.png"] * 60, "b.mha", *["c.png"] * 64)
    assert list(map(len, mixed)) == [61, 64]
    assert [index for chunk in mixed for index in chunk] == list(range(125))


def test_part_file_is_one_line_a_chunk(folder: Path, tmp_path: Path, make_bundle: Make) -> None:
    items = find_items([str(folder)]).items
    scoring.score_items(items, Predictor(bundle.load(make_bundle())), "digest", tmp_path / "p.csv")
    header, chunk = map(json.loads, parts.part_path(tmp_path / "p.csv", 0, 1).read_text().splitlines())
    assert header["bundle"] == "digest"
    assert len(chunk["rows"]) == 24
    assert chunk["faults"] == []
