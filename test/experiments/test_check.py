"""What `amf check` asks before a long run."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from amf.data.figures import open_figures
from amf.errors import DataError
from amf.experiments import check
from amf.experiments.check import check_data_set, check_disk, check_gpu, check_recipe, measure_rate
from amf.training.network import build_classifier
from test.support.drawn import pack_figures
from test.support.miniature import environment, published, write_configuration
from test.support.paths import ROOT
from test.support.small import VIT, adapted_recipe, compact_recipe, publish


def test_weights_must_be_there_and_of_this_network(tmp_path: Path) -> None:
    path = publish(tmp_path / "weights.safetensors", "virchow2")
    assert "does not hold the weights of h-optimus-0" in check_recipe(adapted_recipe(path)).found
    publish(path, "h-optimus-0")
    build_classifier(adapted_recipe(path).model, seed=0)  # a run in the same process
    assert str(check_recipe(adapted_recipe(path))) == (
        "ok  recipe small: h-optimus-0 at 28 px, weights.safetensors holds its weights"
    )
    absent = check_recipe(adapted_recipe(tmp_path / "none.safetensors"))
    assert (absent.ok, "is not there" in absent.found) == (False, True)
    assert check_recipe(compact_recipe()).found == "compact at 32 px, random weights"


@pytest.mark.parametrize(
    ("backbone", "change", "fault"),
    [
        ("h-optimus-0", {"input_px": 42}, "doesn't match model"),
        ("virchow2", {"input_px": 40}, "divisible by patch size"),
        ("h-optimus-0", {"lora": {"targets": ["attn.query"]}}, "attn.query"),
        ("h-optimus-0", {"arguments": {**VIT, "heads": 2}}, "heads"),
    ],
)
def test_a_network_that_cannot_be_built_or_fed_is_named(
    tmp_path: Path, backbone: str, change: dict[str, object], fault: str
) -> None:
    path = publish(tmp_path / "weights.safetensors", backbone)
    answer = check_recipe(adapted_recipe(path, backbone, model=change))
    assert not answer.ok
    assert fault in answer.found


def test_without_a_token_the_gate_is_closed_and_the_first_no_is_the_sentence(tmp_path: Path) -> None:
    recipes = write_configuration(tmp_path / "configuration").parent
    command = [
        sys.executable,
        "-m",
        "amf",
        "check",
        str(recipes / "grid.yaml"),
        str(recipes / "virchow2.yaml"),
    ]
    command += ["--data-set", "midog25", "--root", str(tmp_path / "data")]
    with published() as server:
        shell = environment(server, tmp_path / "hub") | {"HF_TOKEN": "hf_other"}
        done = subprocess.run(command, env=shell, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert "ok  data midog25: 0.00 GB to come, licence cc-by-4.0" in done.stdout.splitlines()
    gate = "the gate of paige-ai/Virchow2 is closed for this token: accept its licence (CC-BY-NC-ND-4.0) at"
    assert f"NO  recipe virchow2: {gate}" in done.stdout
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("not ready: recipe h-optimus-0, model.lora.rank 2: the gate of bioptimus/")
    assert sentence.endswith("(and 2 more)")
    assert not (tmp_path / "data").exists()


def test_data_and_disk(tmp_path: Path) -> None:
    for place in ("OMG-Octo.csv", "OMG-Octo"):
        (tmp_path / place).touch()
    assert str(check_data_set("omg-octo", tmp_path)) == f"ok  data omg-octo: in {tmp_path}"
    with pytest.raises(DataError, match="'midog21' is unknown, expected one of midog25"):
        check_data_set("midog21", tmp_path)
    assert check_disk(tmp_path / "not" / "there", 10**6).ok
    assert not check_disk(tmp_path, 10**18).ok


def test_memory_and_hours_are_a_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is said of a GPU is put together from what torch says of one; without one nothing is made up."""
    pack_figures(tmp_path, figures=48)
    recipe, figures = compact_recipe(), open_figures(tmp_path)
    assert measure_rate(recipe, figures) > 0
    assert check_gpu(recipe, figures, runs=2).found == "none here: memory and hours cannot be told"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=24_000_000_000)
    )
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 9_000_000_000)
    monkeypatch.setattr(check, "measure_rate", lambda *_: 0.01)
    # 2 runs of 4 epochs of 48 figures, and a third of that again to mine the hard ones: 512 figures
    assert check_gpu(recipe, figures, runs=2).found == (
        f"9.0 of 24.0 GB, 0 figures/s: at most {512 / 0.01 / 3600:.1f} h for 2 runs"
    )

    def too_large(*_: Any) -> float:
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(check, "measure_rate", too_large)
    answer = check_gpu(recipe, figures, runs=2)
    assert (answer.ok, answer.found) == (False, "its 24.0 GB do not hold a step of 16 figures")
