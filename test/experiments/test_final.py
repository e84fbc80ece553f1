"""The final model: from a table and a LODO run to a calibrated bundle that scores a stack."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from amf.cli import main
from amf.data.figures import open_figures
from amf.errors import DataError
from amf.evaluation import predictions as evaluation
from amf.evaluation.bootstrap import intervals
from amf.evaluation.metrics import metrics_of
from amf.experiments import lodo
from amf.experiments.calibration import Calibration, calibrate, calibrate_bundle
from amf.experiments.scores import fit_scale_and_bias
from amf.inference import job
from amf.model.bundle import load, read_spec, write_spec
from amf.training.recipe import override, read_recipe
from test.support.drawn import drawn_table, pack_noise

Write = Callable[..., Path]


def test_final_is_one_command_from_table_to_a_bundle_that_scores_a_stack(
    data: Path,
    write: Write,
    finished: Path,
    tmp_path: Path,
    make_job: Callable[..., Path],
    pages: NDArray[np.uint8],
) -> None:
    recipe, out = write(), tmp_path / "final"
    assert main(["final", str(recipe), "--data", str(data), "--out", str(out), "--seeds", "0", "1"]) == 0

    run = lodo.read_lodo([out / "lodo"])
    horizon = run.horizon(read_recipe(recipe))
    for seed in (0, 1):
        folder = out / f"tiny-seed-{seed}"
        assert len(json.loads((folder / "history.json").read_text())) == horizon
        assert read_recipe(folder / "recipe.yaml").optimise.seed == seed
    bundle = load(out / "bundle")
    spec = bundle.spec
    assert len(bundle.members) == 2
    # What ships is calibrated: both members' logits, averaged, not one member's.
    both, alone = (pd.read_csv(folder / "out-of-fold.csv") for folder in (out / "lodo", finished))
    expected = fit_scale_and_bias(both["logit"], both["label"])
    assert (spec.temperature, spec.bias) == pytest.approx(expected, rel=1e-6)
    assert spec.bias != pytest.approx(fit_scale_and_bias(alone["logit"], alone["label"])[1], rel=1e-3)
    assert spec.threshold == json.loads((out / "calibration.json").read_text())["threshold"]
    assert "120 out-of-fold figures" in spec.fitted_on
    assert "tiny, seed 0; tiny, seed 1" in spec.fitted_on
    summary = pd.read_csv(out / "lodo" / "summary.csv", index_col="domain")
    metrics = spec.provenance["metrics"]
    assert metrics["domain 1, held out"]["BA"] == pytest.approx(summary.loc["domain 1", "BA fitted"])
    assert metrics["mean over domains"]["AUC"] == pytest.approx(summary.loc["mean", "AUC"])
    assert [member["optimise"]["seed"] for member in spec.provenance["members"]] == [0, 1]
    card = (out / "bundle" / "MODEL_CARD.md").read_text()
    for part in (open_figures(data).table_hash, "domain 1, held out"):
        assert part in card

    output = tmp_path / "output"
    output.mkdir()
    assert len(job.run(make_job(pages), output, out / "bundle", "cpu")) == len(pages)

    # Calibrated anew from the same LODO run, the bundle is what it was.
    again = ["calibrate", "--lodo", str(out / "lodo"), "--out", str(tmp_path / "again")]
    assert main([*again, "--bundle", str(out / "bundle")]) == 0
    assert load(out / "bundle").spec.bias == spec.bias


def test_final_trains_each_recipe_to_its_own_horizon(
    data: Path, write: Write, ensemble_run: Path, tmp_path: Path
) -> None:
    record = json.loads((ensemble_run / "record.json").read_text())
    changed, out = tmp_path / "lodo", tmp_path / "out"
    shutil.copytree(ensemble_run, changed)
    for member in record["members"]:
        epochs = (1, 3, 9) if member["recipe"]["name"] == "wide" else (1, 1, 1)
        member["best_epochs"] = {f"domain {k}": epoch for k, epoch in enumerate(epochs)}
    (changed / "record.json").write_text(json.dumps(record))
    command = ["final", str(write()), str(ensemble_run / "wide.yaml")]
    assert main([*command, "--data", str(data), "--lodo", str(changed), "--out", str(out)]) == 0
    lengths = {path.parent.name: len(json.loads(path.read_text())) for path in out.glob("*/history.json")}
    assert lengths == {"tiny-seed-0": 1, "wide-seed-0": 3}
    assert len(read_spec(out / "bundle").members) == 2
    assert not (out / "lodo").exists()


def test_final_refuses_a_lodo_run_of_other_members(
    data: Path, write: Write, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["final", str(write()), "--data", str(data), "--out", str(tmp_path / "out")]
    assert main([*command, "--lodo", str(finished), "--seeds", "0", "1"]) == 2
    assert "the LODO run is of tiny, seed 0 on the table " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def calibration(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate(lodo.read_lodo([finished]), tmp_path_factory.mktemp("calibration"))


@pytest.fixture
def sealed(data: Path, finished: Path, make_bundle: Callable[..., Path]) -> Callable[..., Path]:
    """A bundle as `amf final` would make it of the finished run's member, but for the given differences."""
    (member,) = lodo.read_lodo([finished]).members

    def make(changes: dict[str, object] | None = None, table: str = "") -> Path:
        model = member.recipe.model
        folder = make_bundle(arguments=model.arguments, image=model.image, threshold=0.9)
        recipe = override(member.recipe, changes or {}).model_dump(mode="json")
        provenance = {"members": [recipe], "data": {"table": table or open_figures(data).table_hash}}
        write_spec(folder, dataclasses.replace(read_spec(folder), provenance=provenance))
        return folder

    return make


def test_calibrate_writes_into_a_bundle_of_the_same_network(
    finished: Path, tmp_path: Path, sealed: Callable[..., Path]
) -> None:
    bundle = sealed()
    command = ["calibrate", "--lodo", str(finished), "--out", str(tmp_path / "calibration")]
    assert main([*command, "--bundle", str(bundle)]) == 0
    calibration = json.loads((tmp_path / "calibration" / "calibration.json").read_text())
    spec = load(bundle).spec
    for value in ("temperature", "bias", "threshold", "fitted_on"):
        assert getattr(spec, value) == calibration[value]
    assert calibration["fitted_on"] in (bundle / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        ({"changes": {"optimise.seed": 1}}, "bundle of tiny, seed 1 on "),
        ({"changes": {"model.views": 8}}, "expected the very same recipes, seeds and table"),
        ({"table": "f" * 64}, "on ffffffffffff: expected"),
    ],
)
def test_calibrate_refuses_a_bundle_of_another_network(
    calibration: Calibration,
    finished: Path,
    sealed: Callable[..., Path],
    make_bundle: Callable[..., Path],
    bundle: dict[str, Any],
    message: str,
) -> None:
    folder = sealed(**bundle)
    with pytest.raises(DataError, match=re.escape(message)):
        calibrate_bundle(calibration, lodo.read_lodo([finished]), folder)
    assert read_spec(folder).threshold == 0.9
    silent = make_bundle(name="silent")  # it does not say how it was trained
    with pytest.raises(DataError, match="on unknown: expected"):
        calibrate_bundle(calibration, lodo.read_lodo([finished]), silent)


def test_of_one_domain_final_calibrates_by_folds_of_slides_and_says_so(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A laboratory's own figures; they are noise here, so the bundle is near chance and says that, too."""
    data, out = pack_noise(drawn_table(120, domains=1), tmp_path / "data"), tmp_path / "out"
    recipe = str(write())
    assert main(["lodo", recipe, "--data", str(data), "--out", str(out)]) == 2
    assert "or run `amf final`, which holds slides out" in capsys.readouterr().err
    assert main(["final", recipe, "--data", str(data), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "tiny, seed 0: fold 5/5, held out: " in said

    predictions, table = pd.read_csv(out / "lodo" / "out-of-fold.csv"), open_figures(data).table
    assert sorted(predictions["image"]) == sorted(table["image"])
    assert predictions.groupby("slide")["fold"].nunique().eq(1).all(), "a slide is in one fold"
    spec = load(out / "bundle").spec
    assert (
        "of one domain in 5 folds by slide, each scored by networks that never saw its slide"
        in spec.fitted_on
    )
    assert "fold 1 of 5, held out" in spec.provenance["metrics"]
    answers = evaluation.read(out / "held-out.csv").figures
    auc, (low, high) = metrics_of(answers)["roc_auc"], intervals(answers, 2000, 0)["roc_auc"] or (0, 0)
    found = f"AUC {auc:.3f} (95 % interval {low:.3f}–{high:.3f}), BA "
    assert f"out of fold, all figures pooled: {found}" in said
    card = (out / "bundle" / "MODEL_CARD.md").read_text()
    for text in (said, card):
        assert "do not tell how the model does on another scanner, laboratory or tumour" in text
        assert f"Near chance: out of fold, all figures pooled: {found}" in text


def test_one_domain_with_a_single_slide_of_a_class_is_refused(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = drawn_table(40, domains=1)
    table["label"] = (table["slide"] == "drawn/0").astype(int)
    data = pack_noise(table, tmp_path / "data")
    assert main(["final", str(write()), "--data", str(data), "--out", str(tmp_path / "out")]) == 2
    assert "one domain, and AMF or NMF on 1 of its slides, expected at least 2" in capsys.readouterr().err


def test_a_threshold_is_set_by_hand(
    make_bundle: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_bundle(threshold=0.5)
    before = json.loads((folder / "bundle.json").read_text())
    assert main(["calibrate", str(folder), "--threshold", "0.25"]) == 0
    spec = load(folder).spec
    assert (spec.threshold, spec.provenance["threshold"]) == (0.25, "set by hand, 0.5 before")
    assert spec.fitted_on == "nothing: random weights (threshold set by hand)"
    assert json.loads((folder / "bundle.json").read_text())["sha256"] != before["sha256"]
    card = (folder / "MODEL_CARD.md").read_text()
    assert (
        "atypical from threshold 0.2500 on.\nFitted on nothing: random weights (threshold set by hand)"
        in card
    )

    # One who edits bundle.json is refused in a sentence that names the way, and the way is open.
    edited = (folder / "bundle.json").read_text().replace('"threshold": 0.25', '"threshold": 0.3')
    (folder / "bundle.json").write_text(edited)
    capsys.readouterr()
    assert main(["inspect", str(folder)]) == 3
    assert "does not match its sha256 (`amf calibrate BUNDLE --threshold X`" in capsys.readouterr().err
    assert main(["calibrate", str(folder), "--threshold", "0.3"]) == 0
    assert load(folder).spec.threshold == 0.3
    assert load(folder).spec.fitted_on == spec.fitted_on

    for wrong in ("0", "1", "nan"):
        assert main(["calibrate", str(folder), "--threshold", wrong]) == 2
        assert "expected a number between 0 and 1" in capsys.readouterr().err
    assert main(["calibrate", "--threshold", "0.3"]) == 2
    assert main(["calibrate", str(folder)]) == 2
