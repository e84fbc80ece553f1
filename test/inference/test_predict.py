"""Confidence is P(atypical), whatever the batch, the order, the views and the members."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from amf.errors import BundleError
from amf.inference.predict import Predictor, sigmoid
from amf.model import bundle
from amf.model.classifier import Classifier
from amf.model.compact import Compact
from amf.model.device import DeviceError, choose_device, compute_dtype
from amf.model.preprocess import ImageSpec, to_input
from amf.model.views import views

MakeBundle = Callable[..., Path]
Pages = NDArray[np.uint8]


def test_confidence_is_the_probability_of_atypical_and_class_follows_the_threshold(
    make_bundle: MakeBundle, pages: Pages
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


def test_a_higher_logit_is_more_atypical(make_bundle: MakeBundle) -> None:
    predictor = Predictor(bundle.load(make_bundle(threshold=0.3)), "cpu")
    decided = [predictor.decide(z) for z in (-5.0, -1.0, 0.0, 5.0)]
    assert [d.label for d in decided] == ["normal", "normal", "atypical", "atypical"]
    assert [d.confidence for d in decided] == sorted(d.confidence for d in decided)


@pytest.mark.parametrize("z", [-1e4, -40.0, -1.0, 0.0, 0.5, 40.0, 1e4])
def test_sigmoid(z: float) -> None:
    assert sigmoid(z) == pytest.approx(torch.sigmoid(torch.tensor(z, dtype=torch.float64)).item(), abs=1e-300)
    assert math.isfinite(sigmoid(z))


def test_members_average_their_logits(make_bundle: MakeBundle, pages: Pages) -> None:
    loaded = bundle.load(make_bundle(members=3))
    x = to_input(torch.from_numpy(pages), loaded.spec.members[0].image)
    mean = torch.stack([member(x)[0] for member in loaded.members]).mean(0)
    np.testing.assert_allclose(Predictor(loaded, "cpu").logits(pages), mean.numpy(), atol=1e-6)


def test_eight_views_make_the_answer_blind_to_orientation(make_bundle: MakeBundle, pages: Pages) -> None:
    predictor = Predictor(bundle.load(make_bundle(views=8)), "cpu")
    logits = predictor.logits(pages)
    np.testing.assert_allclose(predictor.logits(np.rot90(pages, 1, (1, 2))), logits, atol=1e-5)
    np.testing.assert_allclose(predictor.logits(pages[:, :, ::-1]), logits, atol=1e-5)


def test_views_are_the_eight_different_symmetries_and_the_first_is_the_patch() -> None:
    x = torch.arange(9.0).view(1, 1, 3, 3)
    seen = list(views(x, 8))
    assert torch.equal(seen[0], x)
    assert len({tuple(v.flatten().tolist()) for v in seen}) == 8


@pytest.mark.parametrize("split", [1, 2, 5])
def test_batch_split_and_page_order_do_not_matter(make_bundle: MakeBundle, pages: Pages, split: int) -> None:
    predictor = Predictor(bundle.load(make_bundle()), "cpu")
    whole = predictor.logits(pages)
    parts = [predictor.logits(pages[i : i + split]) for i in range(0, len(pages), split)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(predictor.logits(pages[order]), whole[order], atol=1e-6)


def test_short_memory_splits_the_batch_and_changes_nothing(
    make_bundle: MakeBundle, pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    import amf.inference.predict

    predictor = Predictor(bundle.load(make_bundle()), "cpu")
    whole, sizes, score = predictor.logits(pages), [], amf.inference.predict.score

    def short_of_memory(model: Classifier, batches: tuple[torch.Tensor, ...], *rest: object) -> torch.Tensor:
        sizes.append([len(batch) for batch in batches])
        if len(batches[0]) > 2:
            raise torch.OutOfMemoryError
        return score(model, batches, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(amf.inference.predict, "score", short_of_memory)
    np.testing.assert_allclose(predictor.logits(pages), whole, atol=1e-6)
    assert sizes == [[5], [3, 2], [2, 2, 1]]


@pytest.mark.parametrize("backbone", ["compact", "timm"])
def test_a_backbone_that_can_prepare_itself_does_so_in_full_precision(
    make_bundle: MakeBundle, pages: Pages, monkeypatch: pytest.MonkeyPatch, backbone: str
) -> None:
    """The rest is left as it is stored: a foundation model in float32 would be twice as large."""
    prepared: list[set[torch.dtype]] = []
    monkeypatch.setattr(
        Compact, "prepare_for_inference", lambda self: prepared.append({p.dtype for p in self.parameters()})
    )
    arguments = (
        {"model_name": "vit_tiny_patch16_224", "img_size": 32, "depth": 1} if backbone == "timm" else None
    )
    image = ImageSpec(128, 32, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    loaded = bundle.load(make_bundle(backbone=backbone, arguments=arguments, image=image, dtype="bfloat16"))
    for member in loaded.members:
        member.prepare_for_inference()
    assert prepared == ([{torch.float32}] if backbone == "compact" else [])
    stored = {p.dtype for p in loaded.members[0].backbone.parameters()}
    assert stored == ({torch.float32} if backbone == "compact" else {torch.bfloat16})
    assert np.isfinite(Predictor(loaded, "cpu").logits(pages)).all()
    assert len(prepared) == 2 * (backbone == "compact")


def test_a_logit_that_is_not_a_number_is_an_error(make_bundle: MakeBundle, pages: Pages) -> None:
    loaded = bundle.load(make_bundle())
    loaded.members[0].logit.bias.fill_(float("nan"))
    with pytest.raises(BundleError, match="gave page 1 the logit nan"):
        Predictor(loaded, "cpu").predict(pages)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_that_is_absent_is_one_sentence(make_bundle: MakeBundle) -> None:
    with pytest.raises(DeviceError, match="no CUDA device"):
        Predictor(bundle.load(make_bundle()), "cuda")


def test_a_cuda_device_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)  # as rank 3 of a launcher has it
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda:3")
    assert choose_device("cpu") == torch.device("cpu")


def test_precision_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for native in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda native=native: {"avx512_bf16": native})
        assert compute_dtype(torch.float16, cpu) == (torch.bfloat16 if native else torch.float32)
        assert compute_dtype(torch.float32, cpu) == torch.float32
    for capability, expected in (((7, 5), torch.float16), ((8, 6), torch.bfloat16)):  # T4, A10G
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, capability=capability: capability)
        assert compute_dtype(torch.bfloat16, gpu) == expected
