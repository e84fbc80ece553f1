"""`amf reproduce` on miniatures: from an empty folder to a scored stack, killed twice on the way."""

import html
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from amf.cli import main
from amf.data.fetch import MIRROR
from amf.errors import DataError, RecipeError
from amf.experiments import paper
from amf.experiments.plan import read_plan
from amf.experiments.preflight import as_table, check_input, check_memory, check_recipe, check_source
from amf.experiments.reproduce import STAGES, chosen_stages
from amf.model import backbones
from amf.model.backbones import BACKBONES
from amf.training.memory import count_memory
from amf.training.recipe import override, parse_recipe, read_recipe
from test.support.browser import CHROMIUM, FRAME, PROBE, chromium
from test.support.loopback import Answer, Server, serve
from test.support.paths import ROOT
from test.support.publishers import MIDOG25, publish_all, publish_hub
from test.support.small import TARGETS, VIT

TOKEN = "hf_drawn"
MODEL = {
    "arguments": VIT,
    "weights": "hub",
    "train": "lora",
    "lora": {"rank": 2, "alpha": 4, "dropout": 0.1, "targets": TARGETS},
    "hidden": 8,
    "field_of_view_px": 64,
    "input_px": 28,
}
OPTIMISE = {"epochs": 2, "batch": 16, "learning_rate": 3e-3, "precision": "float32"}
PLAN = {
    "name": "miniature",
    "fetch": {
        "midog25": None,
        "ami-br": None,
        "lung-mito": {"LUNG-MITO/labels.csv": "annotations.csv", "LUNG-MITO/patches": "crops"},
        "midogpp": None,
    },
    "data": "data.yaml",
    "lodo": ["h-optimus-0.yaml", "virchow2.yaml"],
    "grid": {"model.lora.rank": [2, 4]},
    "ablation": {
        "recipe": "ablation.yaml",
        "data": "data-midogpp.yaml",
        "cells": ["baseline", "medium"],
        "folds": 2,
    },
}
DATA = {
    "sources": [
        {"source": "midog25"},
        {"source": "amibr"},
        {
            "source": "generic",
            "dataset": "LUNG-MITO",
            "labels": "LUNG-MITO/labels.csv",
            "patches": "LUNG-MITO/patches",
            "columns": {"image": "file", "label": "class", "slide": "case"},
            "spellings": {"typical": 0, "atypical": 1},
            "constants": {"domain": "LUNG-MITO", "tumor": "human lung cancer", "species": "Human"},
        },
    ]
}


def write_recipes(folder: Path) -> Path:
    """The miniature's plan and recipes; returns the plan."""
    folder.mkdir()
    small = {"augmentation": "flip_rotate", "optimise": OPTIMISE}
    compact = {
        "backbone": "compact", "arguments": {"widths": [4, 8], "blocks": [1, 1]}, "weights": "random",
        "train": "all", "hidden": 8, "field_of_view_px": 32, "input_px": 32,
    }  # fmt: skip
    contents = {
        "h-optimus-0": {"name": "h-optimus-0", "model": {"backbone": "h-optimus-0", **MODEL}, **small},
        "virchow2": {
            "name": "virchow2",
            "model": {"backbone": "virchow2", **MODEL},
            **small,
            "optimise": OPTIMISE | {"epochs": 1},
        },
        "ablation": {
            "name": "ablation",
            "model": compact,
            "augmentation": "none",
            "mixup": None,
            "loss": {"contrastive": 0},
            "optimise": OPTIMISE | {"epochs": 1},
            "variants": {"medium": {"augmentation": "medium"}},
        },
        "data": DATA,
        "data-midogpp": {"sources": [{"source": "midogpp"}]},
        "paper": PLAN,
    }
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "paper.yaml"


def small_weights(backbone: str) -> bytes:
    """A `pytorch_model.bin` with random weights in the published model's own names."""
    torch.manual_seed(7)
    buffer = io.BytesIO()
    torch.save(backbones.build(backbone, VIT).model.state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serve() as running:
        publish_all(running)
        for backbone in ("h-optimus-0", "virchow2"):
            entry = BACKBONES[backbone]
            config = {"architecture": entry.arguments["model_name"], "num_classes": 0}
            publish_hub(running, str(entry.hub), entry.checkpoint, small_weights(backbone), config, TOKEN)
        yield running


@pytest.fixture(scope="module")
def environment(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a shell with a token has: both hosts on the loopback address, a cache of its own."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        MIRROR: server.url,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path_factory.mktemp("hub")),
        "HF_TOKEN": TOKEN,
        "NO_PROXY": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }


def command(plan: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "amf", "reproduce", str(plan), "--out", str(out), *more]


def killed_once(
    arguments: list[str], environment: dict[str, str], reached: Callable[[], bool], log: Path
) -> None:
    """Start, and kill with all its children as soon as a point is reached."""
    with log.open("w") as output:
        process = subprocess.Popen(
            arguments, env=environment, stdout=output, stderr=output, start_new_session=True, cwd=ROOT
        )
        deadline = time.monotonic() + 120
        while not reached():
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def done(
    server: Server, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """The whole way, killed while it downloads and while it trains: plan, folder, the last run's words."""
    folder = tmp_path_factory.mktemp("reproduce")
    plan, out = write_recipes(folder / "recipes"), folder / "out"
    arguments = command(plan, out, "--accept-licence")
    archive = f"/zenodo.org/api/records/{MIDOG25}/files/MIDOG25_Binary_Classification_Train_Set.zip/content"
    answer = server.routes[archive]
    assert isinstance(answer, Answer)
    server.once[archive] = [Answer(answer.body, pause=0.2)]

    def half_downloaded() -> bool:
        parts = (out / "published" / ".fetch").glob("midog25/*.zip.*.part")
        return any(part.stat().st_size > 200_000 for part in parts)

    killed_once(arguments, environment, half_downloaded, folder / "first.log")
    assert not (out / "published" / "MIDOG25_Binary_Classification_Train_Set").exists()
    killed_once(
        arguments,
        environment,
        lambda: len(list(out.glob("lodo/*/*/fold.json"))) >= 2,
        folder / "second.log",
    )
    assert re.fullmatch(r"bytes=\d{6,}-", str(server.asked(archive)[1]))
    before = {
        path.with_name("predictions.csv"): path.with_name("predictions.csv").stat().st_mtime_ns
        for path in out.glob("lodo/*/*/fold.json")
    }

    third = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert third.returncode == 0, third.stderr[-3000:]
    assert "== fetch: done before" in third.stdout
    assert "== table: done before" in third.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    return plan, out, third.stdout


def test_every_stage_leaves_its_record_and_a_stack_is_scored(done: tuple[Path, Path, str]) -> None:
    _, out, said = done
    assert sorted(path.stem for path in (out / "stages").iterdir()) == sorted(STAGES)
    records = {path.stem: json.loads(path.read_text()) for path in (out / "stages").iterdir()}
    assert records["table"]["result"]["counts"] == {"figures": 120, "AMF": 60, "slides": 10, "domains": 5}
    answers = json.loads((out / "image/output/multiple-mitotic-figure-classification.json").read_text())
    assert len(answers) == 16
    assert {answer["class"] for answer in answers} <= {"normal", "atypical"}
    docker = (
        subprocess.run(["docker", "info"], capture_output=True, check=False)
        if shutil.which("docker")
        else None
    )
    by_docker = docker is not None and docker.returncode == 0
    assert records["image"]["result"]["how"].startswith("docker, image amf-miniature") is by_docker
    assert f"scored a stack of 16 figures by {records['image']['result']['how']}" in said
    metrics = json.loads((out / "evaluation/metrics.json").read_text())
    assert metrics["figures"]["overall"]["all"] == 120


def test_the_page_sets_the_papers_numbers_beside_ours(done: tuple[Path, Path, str]) -> None:
    _, out, _ = done
    text = (out / "reproduction.html").read_text()
    rows = {
        re.sub("<.*?>", "", cells[0]): [re.sub("<.*?>", "", cell) for cell in cells[1:]]
        for cells in (re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", text))
    }
    summary = pd.read_csv(out / "lodo/h-optimus-0/summary.csv", index_col="domain")
    assert "BA 0.851 ± 0.037" in rows["LODO of h-optimus-0"][0]
    assert (
        f"BA {summary['BA at 0.5']['mean']:.3f} ± {summary['BA at 0.5']['std']:.3f}"
        in rows["LODO of h-optimus-0"][1]
    )
    assert rows["figures"] == ["11,939", "120"]
    assert "SHA-256" in rows["weights of h-optimus-0"][1]
    lymphoma = rows["canine lymphoma, 3D Histech, VMU Vienna, Canine"]
    assert lymphoma[3] == "0.787"
    predictions = pd.read_csv(out / "lodo" / chosen_folder(out) / "out-of-fold.csv")
    own = predictions[predictions["species"] == "Canine"]
    called = own["logit"] >= 0
    accuracy = (called[own["label"] == 1].mean() + (~called[own["label"] == 0]).mean()) / 2
    assert rows["species: Canine"][:2] == [str(len(own)), str(own["label"].sum())]
    assert rows["species: Canine"][2] == f"{accuracy:.3f}"
    assert rows["species: Canine"][-1] == "0.787 to 0.904"
    assert rows["tumour: human lung cancer"][0] == "24"
    assert rows["medium"][1] == "+0.057 ± 0.024"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_a_browser(done: tuple[Path, Path, str], tmp_path: Path, width: int) -> None:
    text = (done[1] / "reproduction.html").read_text()
    (tmp_path / "probed.html").write_text(text.replace("</body>", PROBE + "</body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width))
    dom = chromium(tmp_path / "profile", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri())
    title = re.search("<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    seen = json.loads(html.unescape(title[1]))
    assert seen["window"] == width
    assert seen["page"] <= width  # a wide table scrolls within itself
    assert seen["requests"] == []


def chosen_folder(out: Path) -> str:
    name = json.loads((out / "stages/grid.json").read_text())["result"]["chosen"]
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.").lower()


def test_a_stage_that_is_done_is_not_done_again_and_a_changed_input_runs_it(
    done: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out, _ = done
    monkeypatch.setenv(MIRROR, "http://127.0.0.1:9")  # nobody answers: nothing is asked
    arguments = ["reproduce", str(plan), "--out", str(out), "--until", "bundle"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.count("done before") == 9
    (out / "calibration" / "calibration.json").unlink()
    assert main(["reproduce", str(plan), "--out", str(out), "--only", "calibration"]) == 0
    assert "== calibration\n" in capsys.readouterr().out
    record = out / "stages" / "horizon.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"inputs": {"settings": "others", "grid": "others"}}))
    assert main(["reproduce", str(plan), "--out", str(out), "--only", "final"]) == 2
    assert "stage horizon is not done with these inputs: run it first" in capsys.readouterr().err
    record.write_text(json.dumps(content))


def test_check_is_one_table_one_verdict_one_code(
    server: Server, environment: dict[str, str], tmp_path: Path
) -> None:
    """Before anything is there: without the token the gate is closed, and nothing is written."""
    plan = write_recipes(tmp_path / "recipes")
    closed = {**environment, "HF_TOKEN": "hf_other", "HF_HOME": str(tmp_path / "hub")}
    run = subprocess.run(
        command(plan, tmp_path / "out", "--check"),
        env=closed,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert (
        "the gate of bioptimus/H-optimus-0 is closed for this token: accept its licence (Apache-2.0)"
        in run.stdout
    )
    assert re.search(r"ok +data +midog25 +0\.00 GB to come, licence cc-by-4\.0", run.stdout)
    assert re.fullmatch(r"not ready: 3 of \d+ answers are no", run.stdout.splitlines()[-1])
    assert not (tmp_path / "out").exists()


def test_check_measures_ten_steps_where_everything_is_there(
    done: tuple[Path, Path, str], environment: dict[str, str], tmp_path: Path
) -> None:
    plan, out, _ = done
    other = tmp_path / "out"
    other.mkdir()
    (other / "stages").mkdir()
    for name in ("published", "data", "data-ablation", "stages/fetch.json", "stages/table.json"):
        (other / name).symlink_to(out / name)
    arguments = command(plan, other, "--check", "--until", "grid")
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1] == "ready"
    assert re.search(r"ok +hours +LODO of virchow2 +0\.\d\d h: 5 runs at \d+ patches/s", run.stdout)
    assert re.search(r"ok +weights +h-optimus-0 +pytorch_model.bin, 0.00 GB, names and shapes as", run.stdout)


# ---- the preflight's single questions


def test_weights_of_another_network_are_found_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(small_weights("virchow2"))
    model = {"backbone": "h-optimus-0", **MODEL, "weights": str(path)}
    check = check_source(parse_recipe({"name": "small", "model": model}, "small"))
    assert not check.ok
    assert "does not hold the weights of h-optimus-0" in check.found
    path.write_bytes(small_weights("h-optimus-0"))
    assert check_source(parse_recipe({"name": "small", "model": model}, "small")).ok


def test_a_patch_size_that_does_not_divide_the_input_is_found() -> None:
    model = {"backbone": "h-optimus-0", **MODEL, "input_px": 32}
    check = check_input(parse_recipe({"name": "small", "model": model}, "small"))
    assert (check.found, check.needed, check.ok) == ("32 px", "28 px, in patches of 14", False)
    flexible = {"backbone": "virchow2", **MODEL, "arguments": VIT, "input_px": 40}
    check = check_input(parse_recipe({"name": "small", "model": flexible}, "small"))
    assert (check.needed, check.ok) == ("a multiple of 14 px", False)
    assert check_input(parse_recipe({"name": "small", "model": {**flexible, "input_px": 42}}, "small")).ok


def test_counted_memory_grows_with_the_batch_and_falls_with_recomputed_blocks() -> None:
    recipe = override(read_recipe(ROOT / "recipes" / "h-optimus-0.yaml"), {"model.arguments": {"depth": 4}})
    none, half, every = (
        count_memory(override(recipe, {"optimise.activation_checkpointing": share}), 10, 64, 2).activations
        for share in (0, 0.5, 1)
    )
    assert every < half < none
    # Of four blocks none keep all, half keep two and the one that is recomputed, every keep that one.
    assert half == pytest.approx(none - (none - every) / 3, rel=0.05)
    assert every > 4 * 64 * 261 * 1536 * 2  # 4 blocks keep their 261 tokens of 1,536 at the least
    twice = count_memory(override(recipe, {"optimise.activation_checkpointing": 0}), 10, 128, 2)
    assert twice.activations == pytest.approx(2 * none, rel=1e-6)


def test_a_network_that_needs_a_gpu_is_refused_without_one() -> None:
    check = check_memory(read_recipe(ROOT / "recipes" / "h-optimus-0.yaml"), 10)
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    assert not check.ok
    assert check.needed.startswith("a GPU with 3")


def test_the_table_counts_what_is_missing() -> None:
    recipe = read_recipe(ROOT / "recipes" / "compact.yaml")
    checks = check_recipe(recipe, 5)
    assert all(check.ok for check in checks)
    assert as_table(checks).splitlines()[-1] == "ready"


# ---- plans and stages


def test_the_papers_plan_is_sound() -> None:
    plan = read_plan(ROOT / "recipes" / "paper.yaml")
    assert [recipe.name for recipe in plan.recipes()] == ["h-optimus-0", "virchow2"]
    assert len(plan.grid_recipes()) == 8
    assert plan.grid_recipes()[0] == plan.recipes()[0]  # its run serves both stages
    assert set(plan.ablation.cells) == set(paper.TABLE_1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 1}, "surprise: Extra inputs"),
        ({"fetch": {"midog21": None}}, "fetch: midog21 is unknown"),
        ({"ablation": {**PLAN["ablation"], "cells": ["medium"]}}, "baseline is missing"),
        ({"ablation": {**PLAN["ablation"], "cells": ["baseline", "x"]}}, "x is unknown"),
        ({"fetch": {"midog25": {"../x": "y"}}}, "stay inside"),
    ],
)
def test_a_faulty_plan_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN | change))
    with pytest.raises(RecipeError, match=message):
        read_plan(tmp_path / "plan.yaml")


def test_stages_are_chosen_by_name() -> None:
    assert chosen_stages() == list(STAGES)
    assert chosen_stages(only="report") == ["report"]
    assert chosen_stages(first="bundle", last="report") == ["bundle", "evaluation", "report"]
    with pytest.raises(DataError, match="comes before"):
        chosen_stages(first="report", last="fetch")
    with pytest.raises(DataError, match="'tabel' is unknown, expected one of fetch, table"):
        chosen_stages(only="tabel")
