"""Confidence is P(atypical), whatever the batch, the order, the views and the members."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from amf.errors import BundleError
from amf.inference.predict import Predictor, sigmoid
from amf.model import bundle
from amf.model.compact import Compact
from amf.model.device import DeviceError, choose_device, compute_dtype
from amf.model.preprocess import ImageSpec, to_input
from amf.model.views import views
from test.support.bundles import change
from test.support.fixtures import Make, Pages, Patch
from test.support.paths import ROOT


def test_confidence_is_the_probability_of_atypical_and_class_follows_the_threshold(
    make_bundle: Make, pages: Pages
) -> None:
    loaded = bundle.load(make_bundle(temperature=2.0, bias=0.25, threshold=0.6))
    predictor = Predictor(loaded, "cpu")
    with torch.inference_mode():
        x = to_input(torch.from_numpy(pages), loaded.spec.members[0].image)
        by_hand = torch.sigmoid(loaded.members[0](x)[0] / 2 + 0.25).tolist()
    for prediction, expected in zip(predictor.predict(pages), by_hand, strict=True):
        assert type(prediction.confidence) is float
        assert prediction.confidence == pytest.approx(expected, abs=1e-6)
        assert prediction.label == ("atypical" if expected >= 0.6 else "normal")


def test_a_higher_logit_is_more_atypical(make_bundle: Make) -> None:
    predictor = Predictor(bundle.load(make_bundle(threshold=0.3)), "cpu")
    decided = [predictor.decide(z) for z in (-5.0, -1.0, 0.0, 5.0)]
    assert [d.label for d in decided] == ["normal", "normal", "atypical", "atypical"]
    assert [d.confidence for d in decided] == sorted(d.confidence for d in decided)


@pytest.mark.parametrize("z", [-1e4, -40.0, -1.0, 0.0, 0.5, 40.0, 1e4])
def test_sigmoid(z: float) -> None:
    assert sigmoid(z) == pytest.approx(torch.sigmoid(torch.tensor(z, dtype=torch.float64)).item(), abs=1e-300)
    assert math.isfinite(sigmoid(z))


def test_eight_views_make_the_answer_blind_to_orientation(make_bundle: Make, pages: Pages) -> None:
    predictor = Predictor(bundle.load(make_bundle(views=8)), "cpu")
    logits = predictor.logits(pages)
    np.testing.assert_allclose(predictor.logits(np.rot90(pages, 1, (1, 2))), logits, atol=1e-5)
    np.testing.assert_allclose(predictor.logits(pages[:, :, ::-1]), logits, atol=1e-5)


def test_views_are_the_eight_different_symmetries_and_the_first_is_the_patch() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    seen = list(views(x, 8))
    assert torch.equal(seen[0], x)
    assert len({tuple(v.flatten().tolist()) for v in seen}) == 8


SCORE_IN_LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import numpy as np, torch
import amf.inference.predict as predict
from amf.model import bundle

torch.set_num_threads(1)
pages = np.load(sys.argv[3])
predictor = predict.Predictor(bundle.load(Path(sys.argv[2])), "cpu")
predictor.logits(pages[:1])
sizes, score = [], predict.score
predict.score = lambda model, batches, *rest: (sizes.append(len(batches[0])), score(model, batches, *rest))[1]
(used,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:")]
limit = (used << 10) + (100 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
np.save(sys.argv[3], predictor.logits(pages))
print(sizes)
"""


def test_short_memory_of_the_process_splits_the_batch_and_changes_nothing(
    make_bundle: Make, tmp_path: Path
) -> None:
    """A real limit: torch reports it in its own way, which no error raised by a test would show."""
    folder, path = make_bundle(), tmp_path / "pages.npy"
    change(folder, lambda content: content["members"][0]["image"].update(input_px=512))
    pages = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
    expected = Predictor(bundle.load(folder), "cpu").logits(pages)
    np.save(path, pages)
    # One arena: address space that malloc reserves for a thread would count as used, and still be free.
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    command = [sys.executable, "-c", SCORE_IN_LITTLE_MEMORY, ROOT, folder, path]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    sizes = json.loads(done.stdout)
    assert sizes[0] == 16
    assert sizes[-1] < 16
    np.testing.assert_allclose(np.load(path), expected, atol=1e-5)


@pytest.mark.parametrize("backbone", ["compact", "timm"])
def test_a_backbone_that_can_prepare_itself_does_so_in_full_precision(
    make_bundle: Make, pages: Pages, monkeypatch: Patch, backbone: str
) -> None:
    """The rest is left as it is stored: a foundation model in float32 would be twice as large."""
    prepared: list[set[torch.dtype]] = []
    monkeypatch.setattr(
        Compact, "prepare_for_inference", lambda self: prepared.append({p.dtype for p in self.parameters()})
    )
    vit = {"model_name": "vit_tiny_patch16_224", "img_size": 32, "depth": 1}
    arguments = vit if backbone == "timm" else None
    image = ImageSpec(128, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    loaded = bundle.load(make_bundle(backbone=backbone, arguments=arguments, image=image, dtype="bfloat16"))
    for member in loaded.members:
        member.prepare_for_inference()
    assert prepared == ([{torch.float32}] if backbone == "compact" else [])
    stored = {p.dtype for p in loaded.members[0].backbone.parameters()}
    assert stored == ({torch.float32} if backbone == "compact" else {torch.bfloat16})
    assert np.isfinite(Predictor(loaded, "cpu").logits(pages)).all()
    assert len(prepared) == 2 * (backbone == "compact")


def test_a_logit_that_is_not_a_number_is_an_error(make_bundle: Make, pages: Pages) -> None:
    loaded = bundle.load(make_bundle())
    loaded.members[0].logit.bias.fill_(float("nan"))
    with pytest.raises(BundleError, match="gave page 1 the logit nan"):
        Predictor(loaded, "cpu").predict(pages)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_absent_is_one_sentence(make_bundle: Make) -> None:
    with pytest.raises(DeviceError, match="no CUDA device"):
        Predictor(bundle.load(make_bundle()), "cuda")


def test_a_cuda_device_is_named_by_its_number(monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)  # as rank 3 of a launcher has it
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:3")
    assert choose_device("cpu") == torch.device("cpu")


def test_precision_policy(monkeypatch: Patch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert compute_dtype(torch.float16, cpu) == (torch.bfloat16 if native else torch.float32)
        assert compute_dtype(torch.float32, cpu) == torch.float32
    for capability, expected in (((7, 5), torch.float16), ((8, 6), torch.bfloat16)):  # T4, A10G
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert compute_dtype(torch.bfloat16, gpu) == expected
