"""Maps: their sum is what they explain, few points agree with many, and nothing lies where nobody looks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amf.evaluation import maps
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.shipped import shipped_bundle
from docs.make_example_report import draw_patch

PATCHES = np.stack([draw_patch(number % 2, np.random.default_rng(number)) for number in range(4)])


@pytest.mark.parametrize("shipped", [False, True])
def test_maps_sum_to_the_change_of_the_logit(shipped: bool, make_bundle: Callable[..., Path]) -> None:
    folder = shipped_bundle() if shipped else make_bundle(members=2, views=8)
    predictor = Predictor(bundle.load(folder), "cpu")
    change = predictor.logits(PATCHES) - predictor.logits(maps.plain(PATCHES))
    shares = np.stack(list(maps.attribute(bundle.load(folder), PATCHES)))
    assert shares.shape == (4, 128, 128)
    assert np.abs(change).max() > 1e-3  # random weights hardly tell the patches
    np.testing.assert_allclose(shares.sum(axis=(1, 2)), change, atol=0.1 * np.abs(change).max())
    margin = (128 - bundle.read_spec(folder).members[0].image.field_of_view_px) // 2
    assert not shares[:, :margin].any()  # no member looks there
    assert shares[:, margin:-margin, margin:-margin].any()


def test_views_that_take_turns_show_what_all_views_show() -> None:
    loaded = bundle.load(shipped_bundle())
    quick, slow = (next(maps.attribute(loaded, PATCHES[:1], steps)) for steps in (maps.STEPS, 64))
    drawn = [maps.overlay(map_).astype(int) for map_ in (quick, slow)]
    opaque = [np.where(seen[..., 0] == 213, 1, -1) * seen[..., 3] for seen in drawn]  # orange above zero
    assert np.corrcoef(*(part.ravel() for part in opaque))[0, 1] > 0.9
