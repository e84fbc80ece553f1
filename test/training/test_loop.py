"""The loop: it learns, stops, and goes on after a kill as if nothing had happened."""

import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from amf.cli import main
from amf.data.figures import Figures, open_figures
from amf.errors import DataError
from amf.training import batches, loop
from amf.training.learner import (
    BEST,
    CHECKPOINT,
    PRECISIONS,
    Learner,
    accelerator_for,
    compute_dtype,
    load_checkpoint,
)
from amf.training.loop import HISTORY, Outcome, fit, learning_rate
from amf.training.recipe import Recipe, override, read_recipe, write_recipe
from test.support.drawn import pack_figures
from test.support.paths import ROOT
from test.support.small import adapted_recipe, compact_recipe, publish

TIMES = ("patches_per_s", "data_share")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    pack_figures(path)
    return path


@pytest.fixture(scope="module")
def figures(folder: Path) -> Figures:
    return open_figures(folder)


TRAIN, MONITOR = np.arange(70), np.arange(70, 96)
QUICK: dict[str, Any] = {"optimise.epochs": 1, "augmentation": "none", "mixup": None}
"""For tests to which it does not matter what is learnt."""


@pytest.fixture(scope="module")
def finished(figures: Figures, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, Outcome]:
    """A recipe, the folder of its run of two epochs, and what came of it; for reading only."""
    recipe = override(compact_recipe(), {**QUICK, "optimise.epochs": 2})
    path = tmp_path_factory.mktemp("finished") / "run"
    return recipe, path, run(recipe, figures, path)


def run(recipe: Recipe, figures: Figures, folder: Path, resume: bool = False) -> Outcome:
    return fit(recipe, figures, TRAIN, MONITOR, folder, resume)


def saved(folder: Path) -> dict[str, Tensor]:
    """All tensors that a run ends with: weights, their average, the optimiser's, the best epoch's."""
    state = load_checkpoint(folder)
    assert state is not None
    tensors = {f"{part} {name}": t for part in ("weights", "average") for name, t in state[part].items()}
    for index, moments in state["optimiser"]["state"].items():
        tensors |= {f"optimiser {index} {name}": t for name, t in moments.items()}
    return tensors | {f"best {name}": t for name, t in load_file(folder / BEST).items()}


def losses(outcome: Outcome) -> list[dict[str, float]]:
    return [{k: v for k, v in values.items() if k not in TIMES} for values in outcome.history]


def test_it_learns_to_tell_the_figures_apart(figures: Figures, tmp_path: Path) -> None:
    # with so many epochs it learns from every seed tried, from 12 on only from some
    recipe = override(compact_recipe(), {**QUICK, "optimise.epochs": 24, "optimise.ema": 0.0})
    outcome = run(recipe, figures, tmp_path)
    first, best = outcome.history[0], outcome.history[outcome.best_epoch]
    assert outcome.history[-1]["train_loss"] < 0.9 * first["train_loss"]
    assert best["loss"] < 0.95 * first["loss"]  # the drawn votes disagree: the floor is high
    assert best["balanced_accuracy"] > 0.9
    assert outcome.best_loss == best["loss"] == min(values["loss"] for values in outcome.history)


def test_a_run_keeps_what_it_did(finished: tuple[Recipe, Path, Outcome]) -> None:
    recipe, folder, outcome = finished
    assert read_recipe(folder / "recipe.yaml") == recipe
    assert json.loads((folder / HISTORY).read_text()) == outcome.history
    assert any((folder / "tensorboard").iterdir())
    for values in outcome.history:
        assert all(math.isfinite(value) for value in values.values())
        parts = sum(values[f"train_{term}"] for term in ("focal", "contrastive", "domain"))
        assert values["train_loss"] == pytest.approx(parts, rel=1e-5)
        assert 0 < values["data_share"] < 1


def test_the_positive_weight_is_that_of_the_draws_or_of_the_training_set(
    figures: Figures, finished: tuple[Recipe, Path, Outcome], tmp_path: Path
) -> None:
    recipe, _, outcome = finished
    atypical = (figures.soft_label[TRAIN] >= 0.5).sum()
    constant = run(override(recipe, {"loss.adaptive_over": "training"}), figures, tmp_path)
    of_all, drawn = ([epoch["positive_weight"] for epoch in o.history] for o in (constant, outcome))
    assert of_all == [(70 - atypical) / atypical] * 2
    assert len({*drawn, *of_all}) == 3  # the draws' is refreshed each epoch


def test_the_monitor_measures_the_saved_weights(figures: Figures, tmp_path: Path) -> None:
    """The best epoch's loss is that of the file, recomputed in float64 from the definition."""
    from amf.experiments.export import trained_classifier
    from amf.inference.predict import score

    changes = {"optimise.precision": "float32", "optimise.epochs": 3, "optimise.monitor": "auc"}
    recipe = override(compact_recipe(), QUICK | changes)
    outcome = run(recipe, figures, tmp_path)
    assert outcome.best_epoch == np.argmax([values["auc"] for values in outcome.history])
    _, classifier = trained_classifier(tmp_path)
    z = score(classifier, figures.batches(MONITOR), recipe.model.image, 1, torch.float32).numpy()
    y = figures.soft_label[MONITOR].astype(float)
    p = 1 / (1 + np.exp(-z))
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    best = outcome.history[outcome.best_epoch]
    # float32 sums in another batch size
    assert best["loss"] == pytest.approx(expected, rel=1e-4)
    truth = figures.label[MONITOR] == 1
    assert best["amf_recall"] == pytest.approx(np.mean(z[truth] >= 0))
    assert best["nmf_recall"] == pytest.approx(np.mean(z[~truth] < 0))


class Killed(Exception):
    """Stands for the signal."""


def killed_in(epoch: int, batch: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Kill the loop when it fetches that batch; returns what undoes it."""
    original = batches.make_batch

    def make_batch(task: Any, rows: Any, place: tuple[int, int, int], device: Any) -> Any:
        if place[:2] == (epoch, batch):
            raise Killed
        return original(task, rows, place, device)

    monkeypatch.setattr(batches, "make_batch", make_batch)
    return lambda: monkeypatch.setattr(batches, "make_batch", original)


VARIANTS: dict[str, dict[str, Any]] = {
    "everything": {},
    "accumulated, without average or mining": {
        "optimise.accumulate": 2,
        "optimise.ema": 0.0,
        "sampling.hard_mining": False,
        "mixup": "domain_aware",
        "loss.domain_ramp": True,
    },
    "adapters": {"optimise.epochs": 3, "optimise.batch": 16, "optimise.activation_checkpointing": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_ends_as_an_uninterrupted_one(
    figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    recipe = compact_recipe()
    if variant == "adapters":
        recipe = adapted_recipe(publish(tmp_path / "weights.safetensors", "h-optimus-0"))
    recipe = override(recipe, VARIANTS[variant])
    whole = run(recipe, figures, tmp_path / "whole")
    for epoch, batch in ((0, 2), (1, 3), (2, 1)):  # before any checkpoint, in mid-epoch, between two epochs
        revive = killed_in(epoch, batch, monkeypatch)
        with pytest.raises(Killed):
            run(recipe, figures, tmp_path / "killed", resume=True)
        revive()
    resumed = run(recipe, figures, tmp_path / "killed", resume=True)
    assert losses(resumed) == losses(whole)
    assert resumed.best_epoch == whole.best_epoch
    tensors = assert_same_tensors(tmp_path)
    if variant == "adapters":
        assert not any("blocks" in name and "lora" not in name for name in tensors)  # not the frozen


def assert_same_tensors(folder: Path) -> dict[str, Tensor]:
    """The run that was killed ends with every tensor of the whole one; returns them."""
    expected, actual = saved(folder / "whole"), saved(folder / "killed")
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    return expected


@pytest.mark.soak
def test_a_run_killed_at_twenty_random_moments_ends_with_the_same_tensors(
    figures: Figures, tmp_path: Path
) -> None:
    # more epochs than a fast machine gets through in the 11 s of the kills
    recipe = override(compact_recipe(), {"optimise.epochs": 600, "optimise.patience": 600})
    moments = random.Random(0)
    epochs_kept = []
    for _ in range(20):
        child = os.fork()  # the imports, which take most of a process's life, are behind it
        if child == 0:
            run(recipe, figures, tmp_path / "killed", resume=True)
            os._exit(0)
        time.sleep(moments.uniform(0.1, 1.0))
        os.kill(child, signal.SIGKILL)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, "the run ended before it was killed"
        state = load_checkpoint(tmp_path / "killed")
        epochs_kept.append(state["epoch"] if state else 0)
    assert epochs_kept == sorted(epochs_kept)
    print(f"epochs that each of 20 kills left: {epochs_kept}")
    run(recipe, figures, tmp_path / "killed", resume=True)
    run(recipe, figures, tmp_path / "whole")
    assert_same_tensors(tmp_path)


MEASURE = loop.measure


def scripted_monitor(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Replace what is measured; the epoch trained before it is real."""
    series = iter(values)
    monkeypatch.setattr(loop, "measure", lambda *given: MEASURE(*given) | {"loss": next(series)})


def test_it_stops_when_patience_runs_out_and_keeps_the_best_across_a_kill(
    figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = override(compact_recipe(), {**QUICK, "optimise.epochs": 9, "optimise.patience": 2})
    scripted_monitor(monkeypatch, [0.7, 0.5, 0.6])
    revive = killed_in(3, 1, monkeypatch)
    with pytest.raises(Killed):
        run(recipe, figures, tmp_path)
    revive()
    best = (tmp_path / BEST).read_bytes()
    scripted_monitor(monkeypatch, [0.5, 0.1])
    outcome = run(recipe, figures, tmp_path, resume=True)
    assert [values["loss"] for values in outcome.history] == [0.7, 0.5, 0.6, 0.5]  # a tie is no better
    assert (outcome.best_epoch, outcome.best_loss) == (1, 0.5)
    assert (tmp_path / BEST).read_bytes() == best
    state = load_checkpoint(tmp_path)
    assert state is not None
    last = state["average"]["classifier.logit.weight"]
    assert not torch.equal(load_file(tmp_path / BEST)["logit.weight"], last)


def test_a_finished_run_is_not_trained_again_nor_is_anothers_folder(
    figures: Figures,
    finished: tuple[Recipe, Path, Outcome],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe, folder, outcome = finished
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    checkpoint = tmp_path / CHECKPOINT
    before = checkpoint.read_bytes()
    killed_in(2, 1, monkeypatch)
    assert run(recipe, figures, tmp_path, resume=True).history == outcome.history
    with pytest.raises(DataError, match="holds a run already: resume it, or choose another folder"):
        run(recipe, figures, tmp_path)
    with pytest.raises(DataError, match="checkpoint of another recipe, table or split"):
        run(override(recipe, {"optimise.epochs": 3}), figures, tmp_path, resume=True)
    with pytest.raises(DataError, match="checkpoint of another recipe, table or split"):
        fit(recipe, figures, TRAIN[:-1], MONITOR, tmp_path, resume=True)
    assert checkpoint.read_bytes() == before

    state = torch.load(checkpoint, weights_only=True)
    identity = json.loads(state["identity"])
    del identity[0]["loss"]["domain_ramp"]  # at its default, as a checkpoint older than the key has it
    torch.save(state | {"identity": json.dumps(identity)}, checkpoint)
    assert run(recipe, figures, tmp_path, resume=True).history == outcome.history


@pytest.mark.parametrize(
    "changes", [{"optimise.accumulate": 3}, {"optimise.batch": 128}, {"optimise.accumulate": 16}]
)
def test_a_batch_that_cannot_be_shared_out_is_refused(
    figures: Figures, tmp_path: Path, changes: dict[str, int]
) -> None:
    with pytest.raises(DataError, match="does not divide into"):
        run(override(compact_recipe(), changes), figures, tmp_path)


@pytest.mark.parametrize("side", ["training", "monitor"])
def test_a_side_of_one_class_is_refused(figures: Figures, tmp_path: Path, side: str) -> None:
    normal = np.flatnonzero(figures.label == 0)
    train, monitor = (normal, MONITOR) if side == "training" else (TRAIN, normal)
    with pytest.raises(DataError, match=f"{side} figures are of one class"):
        fit(compact_recipe(), figures, train, monitor, tmp_path)


def test_a_loss_that_explodes_ends_the_run_and_saves_nothing(figures: Figures, tmp_path: Path) -> None:
    recipe = override(
        compact_recipe(), {**QUICK, "optimise.learning_rate": 0.9, "optimise.weight_decay": 1e30}
    )
    with pytest.raises(DataError, match="of epoch 1: lower the rate"):
        run(recipe, figures, tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_every_step_takes_its_rate_of_a_warm_up_and_half_a_cosine(
    figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = [learning_rate(step, 20, warmup=0.2, peak=0.01) / 0.01 for step in range(20)]
    warm = [step / 5 for step in (1, 2, 3, 4)]
    assert rates == pytest.approx(warm + [math.cos(math.pi / 2 * k / 16) ** 2 for k in range(16)])

    seen: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *given: Any) -> Any:
        seen.extend(group["lr"] for group in self.param_groups)
        return original(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    recipe = override(compact_recipe(), {**QUICK, "optimise.epochs": 2, "optimise.accumulate": 2})
    run(recipe, figures, tmp_path)
    # 70 figures in batches of 16 are four steps an epoch, each of two parts; two groups of parameters
    assert seen == [learning_rate(step, 8, 0.1, 0.01) for step in range(8) for _ in range(2)]


def test_accumulated_parts_are_the_whole_batch(figures: Figures, tmp_path: Path) -> None:
    """Without batch statistics, mixing or pairs, two halves give the gradient of the batch they make up."""
    weights = publish(tmp_path / "weights.safetensors", "h-optimus-0")
    ends = []
    for parts in (1, 2):
        recipe = adapted_recipe(
            weights,
            model={"dropout": 0, "lora": {"rank": 4, "alpha": 8, "dropout": 0}},
            augmentation="none",
            mixup=None,
            loss={"contrastive": 0},
            optimise={"epochs": 1, "batch": 16, "accumulate": parts, "precision": "float32"},
        )
        folder = tmp_path / str(parts)
        run(recipe, figures, folder)
        ends.append(load_file(folder / BEST))
    for name in ends[0]:
        # Adam turns a gradient's rounding into a step of its own size where the gradient is near zero
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=0, atol=2e-4)


def test_the_average_is_the_recursion_it_says_it_is(
    figures: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "classifier.logit.weight"
    weights, means = [], []
    original = Learner.learn

    def record(self: Learner, loss: Tensor, rate: float, step: int) -> None:
        means.append(self.average[name].double().clone())
        original(self, loss, rate, step)
        weights.append(self.learnt[name].double().clone())

    monkeypatch.setattr(Learner, "learn", record)
    run(override(compact_recipe(), {**QUICK, "optimise.epochs": 2, "optimise.ema": 0.6}), figures, tmp_path)
    assert len(weights) == 8
    mean = means[0]
    for step, learnt in enumerate(weights, start=1):
        decay = min(0.6, step / (step + 9))
        mean = decay * mean + (1 - decay) * learnt
    state = load_checkpoint(tmp_path)
    assert state is not None
    torch.testing.assert_close(state["average"][name].double(), mean, rtol=1e-5, atol=1e-6)
    assert torch.equal(state["weights"][name].double(), weights[-1])


def test_runs_of_different_precision_share_a_process() -> None:
    for precision in ("auto", "float32", "auto"):
        recipe = override(compact_recipe(), {"optimise.precision": precision})
        accelerator = accelerator_for(recipe.optimise)
        wanted = compute_dtype(torch.bfloat16, accelerator.device) if precision == "auto" else torch.float32
        assert PRECISIONS[accelerator.mixed_precision] == wanted


def test_the_command_trains_and_resumes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recipe(override(compact_recipe(), QUICK), tmp_path / "tiny.yaml")
    command = ["fit", str(tmp_path / "tiny.yaml"), "--data", str(folder), "--out", str(tmp_path / "run")]
    assert main(command) == 0
    assert "best epoch" in capsys.readouterr().out
    assert {"recipe.yaml", BEST, HISTORY, CHECKPOINT} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert main(command) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert main([*command[:2], "--data", str(tmp_path), *command[4:]]) == 2
    assert "table.csv" in capsys.readouterr().err


WORKER = """
import sys
from pathlib import Path
import numpy as np, torch
from accelerate import PartialState
from amf.data.figures import open_figures
from amf.training import batches
from amf.training.learner import Learner, load_checkpoint
from amf.training.loop import fit
from amf.training.recipe import read_recipe

data, recipe, out = map(Path, sys.argv[1:])
figures, recipe = open_figures(data), read_recipe(recipe)
learners, make_batch, build = [], batches.make_batch, Learner.__init__

def built(self, *given):
    build(self, *given)
    learners.append(self)

def killed(task, rows, place, device):
    if place[:2] == (1, 2):
        raise InterruptedError
    return make_batch(task, rows, place, device)

def run(name):
    return fit(recipe, figures, np.arange(70), np.arange(70, 95), out / name, resume=True)

def save(name):
    losses = torch.tensor([values["loss"] for values in run(name).history])
    state = {f"weights {k}": v for k, v in learners[-1].learnt.items()}
    state |= {f"average {k}": v for k, v in learners[-1].average.items()}
    result = {"state": state, "monitor": losses, "hard": load_checkpoint(out / name)["hard"]}
    torch.save(result, out / f"{name} {PartialState().process_index}.pt")

Learner.__init__ = built
save("whole")
batches.make_batch = killed
try:
    run("killed")
except InterruptedError:
    print("killed")
batches.make_batch = make_batch
save("killed")
"""


def launch(script: Path, *arguments: object) -> str:
    """Run a script in two processes under Accelerate's launcher; returns what they print."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"num_processes": 2, "num_machines": 1, "main_process_port": port, "mixed_precision": "no"}
    flags |= {"dynamo_backend": "no", "num_cpu_threads_per_process": 1}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    done = subprocess.run(
        [*command, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_train_one_network_and_resume_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    write_recipe(override(compact_recipe(), {**QUICK, "optimise.epochs": 2}), tmp_path / "recipe.yaml")
    printed = launch(tmp_path / "worker.py", folder, tmp_path / "recipe.yaml", tmp_path)
    assert printed.count("killed") == 2
    assert printed.count("epoch 2/2") == 2  # one of the two reports, for either run
    names = [f"{run} {rank}.pt" for run in ("whole", "killed") for rank in (0, 1)]
    first, *others = [torch.load(tmp_path / name, weights_only=True) for name in names]
    assert first["monitor"].shape == (2,)
    assert first["hard"].sum() == 21  # 30 % of 70
    assert all(tensor.isfinite().all() for tensor in first["state"].values())
    for other in others:
        assert torch.equal(first["monitor"], other["monitor"])
        assert torch.equal(first["hard"], other["hard"])
        assert all(torch.equal(tensor, other["state"][name]) for name, tensor in first["state"].items())
