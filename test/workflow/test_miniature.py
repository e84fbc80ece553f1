"""`make cluster`: the whole workflow on miniatures, on one machine and on Slurm, both broken off."""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from amf.experiments.folds import slug
from test.support import slurm
from test.support.browser import Window
from test.support.jobs import run_inference
from test.support.miniature import environment, published, snakemake, write_configuration
from test.support.paths import ROOT

pytestmark = pytest.mark.soak
SAME = ("data/table.csv", "chosen.yaml", "lodo/h-optimus*/out-of-fold.csv", "bundle/*.safetensors")
PROFILE = [
    "--profile", str(ROOT / "workflow" / "profiles" / "slurm"), "--latency-wait", "10",
    "--slurm-no-account", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "2", "--slurm-keep-successful-logs",
]  # fmt: skip


def docker_answers() -> bool:
    engine = shutil.which("docker")
    return engine is not None and subprocess.run([engine, "info"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("miniature")


@pytest.fixture(scope="module")
def shell(folder: Path) -> Iterator[dict[str, str]]:
    with published() as server:
        yield environment(server, folder / "hub")


@pytest.fixture(scope="module")
def configuration(folder: Path) -> Path:
    return write_configuration(folder / "configuration")


@dataclass
class Fold:
    """A fold in the middle: where it is, and the epochs that it had saved, their measured speeds included."""

    folder: Path
    history: list[dict[str, float]]

    def went_on(self) -> bool:
        """Whether it has more epochs by now, and still those from before."""
        now = json.loads((self.folder / "history.json").read_text())
        return len(now) > len(self.history) and now[: len(self.history)] == self.history


def fold_in_the_middle(out: Path, processes: Callable[[], list[psutil.Process]], but: str = "") -> Fold:
    """Wait until one of the processes trains a fold that has saved an epoch and has not ended."""
    found: list[Fold] = []

    def reached() -> bool:
        for process in processes():
            with suppress(psutil.NoSuchProcess):
                called = re.search(r"amf lodo .*--out (\S+) --fold (\d+)", " ".join(process.cmdline()))
                if called and called[1] != but:
                    table = pd.read_csv(out / "data" / "table.csv")
                    folder = out / called[1] / slug(sorted(table["domain"].unique())[int(called[2])])
                    if (folder / "checkpoint.pt").exists() and not (folder / "predictions.csv").exists():
                        found.append(Fold(folder, []))
        return bool(found)

    slurm.until(reached, "a fold", seconds=600)
    return found[0]


@pytest.fixture(scope="module")
def alone(folder: Path, configuration: Path, shell: dict[str, str]) -> tuple[Path, Fold]:
    """A run on one machine, killed with all its jobs and continued; and the fold that it was killed in."""
    out = folder / "alone"
    command = snakemake(configuration, out, "--cores", "2", "--rerun-incomplete")
    with subprocess.Popen(command, env=shell, start_new_session=True) as process:
        fold = fold_in_the_middle(out, lambda: psutil.Process(process.pid).children(recursive=True))
        os.killpg(process.pid, signal.SIGKILL)
    fold.history = json.loads((fold.folder / "history.json").read_text())
    finished = {path: path.stat().st_mtime_ns for path in out.glob("lodo/*/*/predictions.csv")}
    subprocess.run([*command, "--unlock"], env=shell, check=True)
    subprocess.run(command, env=shell, check=True)
    assert fold.went_on()
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    return out, fold


def test_nothing_is_done_twice_and_a_changed_recipe_is_out_of_date(
    alone: tuple[Path, Fold], configuration: Path, shell: dict[str, str]
) -> None:
    out, _ = alone
    command = snakemake(configuration, out, "--cores", "2", "--dry-run")
    said = subprocess.run(command, env=shell, check=True, capture_output=True, text=True).stdout
    assert "Nothing to be done" in said
    recipe = configuration.parent / "ablation.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("0.003", "0.002"))
    said = subprocess.run(command, env=shell, check=True, capture_output=True, text=True).stdout
    recipe.write_text(text)
    jobs = dict(line.split() for line in said.split("-----\n")[1].split("\n\n")[0].splitlines())
    assert (jobs["cell"], jobs["page"]) == ("4", "1")
    assert not {"fetch", "table", "fold"} & jobs.keys()


def test_the_bundle_scores_and_is_evaluated(alone: tuple[Path, Fold], tmp_path: Path) -> None:
    out, _ = alone
    job = ROOT / "test" / "input" / "tiff"
    done = run_inference("--input", job, "--output", tmp_path, "--model", out / "bundle")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert metrics["figures"]["overall"]["all"] == 48


def test_the_page_sets_the_papers_numbers_beside_ours(alone: tuple[Path, Fold]) -> None:
    out, _ = alone
    rows = {
        re.sub("<.*?>", "", cells[0]): [re.sub("<.*?>", "", cell) for cell in cells[1:]]
        for cells in (
            re.findall(r"<t[dh]>(.*?)</t[dh]>", row)
            for row in re.findall("<tr>(.*?)</tr>", (out / "reproduction.html").read_text())
        )
    }
    chosen = yaml.safe_load((out / "chosen.yaml").read_text())["name"]
    summary = pd.read_csv(out / "lodo" / slug(chosen) / "summary.csv", index_col="domain")
    mean, std = (f"{summary['BA at 0.5'][row]:.3f}" for row in ("mean", "std"))
    assert "BA 0.851 ± 0.037" in rows[f"LODO of {chosen}"][0]
    assert f"BA {mean} ± {std}" in rows[f"LODO of {chosen}"][1]
    assert "LODO of virchow2" in rows
    assert rows["figures"] == ["11,939", "48"]
    assert "github.com/DeepMicroscopy/AMi-Br" in rows["data set ami-br"][1]
    assert "SHA-256" in rows["weights of virchow2"][1]
    assert rows["human breast cancer, Hamamatsu XR, UMC Utrecht, Human"][3] == "0.860"
    assert rows["species: Human"][-1] == "0.837 to 0.874"
    assert rows["medium"][1] == "+0.057 ± 0.024"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_in_a_browser(alone: tuple[Path, Fold], browser: Window, width: int) -> None:
    browser.open(alone[0] / "reproduction.html", width)
    seen = browser.layout()
    assert seen["window"] == width
    assert seen["page"] <= width  # a wide table scrolls within itself
    assert seen["requests"] == []


@pytest.mark.skipif(not docker_answers(), reason="no Docker engine answers")
def test_the_image_is_built_and_tested(
    alone: tuple[Path, Fold], configuration: Path, shell: dict[str, str]
) -> None:
    options = os.environ.get("AMF_BUILD_OPTIONS", "")
    changes = ["--config", "image=amf-miniature:latest", f"build_options={options}"]
    command = snakemake(configuration, alone[0], "--cores", "2", *changes)
    said = subprocess.run(command, env=shell, check=True, capture_output=True, text=True).stdout
    assert "passed: amf-miniature:latest (exec)" in said


@pytest.mark.skipif(bool(slurm.missing()), reason=f"this machine lacks {', '.join(slurm.missing())}")
def test_a_cluster_gives_the_result_of_one_machine_though_a_node_dies(
    alone: tuple[Path, Fold], folder: Path, configuration: Path, shell: dict[str, str]
) -> None:
    reference, other = alone
    out, target = folder / "together", "bundle/bundle.json"
    with slurm.cluster() as cluster:
        with subprocess.Popen(snakemake(configuration, out, *PROFILE, target), env=shell) as process:
            but = str(
                other.folder.parent.relative_to(reference)
            )  # another fold than the one broken off there
            fold = fold_in_the_middle(out, lambda: slurm.processes_of("n2"), but)
            cluster.kill_node("n2")
            fold.history = json.loads((fold.folder / "history.json").read_text())
            assert process.wait(900) == 0
        ended = cluster.ended()
    assert fold.went_on()

    # The lost fold's job has ended twice: with its node, and on the other one.
    folds = {path.stem for path in out.glob(".snakemake/slurm_logs/rule_fold/**/*.log")}
    ended = [job for job in ended if job["JobId"] in folds]
    (lost,) = (job for job in ended if job["JobState"] != "COMPLETED")
    assert (lost["JobState"], lost["NodeList"]) == ("NODE_FAIL", "n2")
    assert [job["NodeList"] for job in ended if job["JobId"] == lost["JobId"]] == ["n2", "n1"]
    assert {job["NodeList"] for job in ended if job is not lost} == {"n1", "n2"}

    files = [path.relative_to(reference) for pattern in SAME for path in reference.glob(pattern)]
    assert len(files) == 5
    assert [path for path in files if (out / path).read_bytes() != (reference / path).read_bytes()] == []
