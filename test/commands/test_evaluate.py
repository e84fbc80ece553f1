"""`amf evaluate` as a user meets it."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from amf.cli import main as amf
from docs.make_example_report import draw_predictions
from test.support.fixtures import Capture, Patch


def test_organisers_example(shared_data: Path, tmp_path: Path, capsys: Capture) -> None:
    code = amf(["evaluate", str(shared_data / "grand-challenge/evaluation"), "--output", str(tmp_path)])

    assert code == 0
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["results"] == {}
    assert set(numbers["aggregates"]) == {
        "overall_sensitivity", "overall_specificity", "overall_balanced_accuracy", "overall_roc_auc",
        "overall_accuracy", "domain_1", "domain_6",
    }  # fmt: skip
    assert numbers["aggregates"]["domain_6"]["roc_auc"] is None
    assert numbers["intervals"]["domain_6"]["roc_auc"] is None
    assert [note.split(" has ")[0] for note in numbers["notes"]][-1] == "Domain 6"
    out = capsys.readouterr().out
    assert "0.7315" in out
    assert "Domain 6 has no atypical figure" in out
    assert (tmp_path / "report.html").stat().st_size > 20_000


def test_interval_encloses_the_score_and_narrows_with_figures(tmp_path: Path) -> None:
    widths = []
    for slides in (20, 80):
        figures = draw_predictions(np.random.default_rng(0), slides=slides)
        figures.to_csv(tmp_path / "p.csv", index=False)
        assert (
            amf(["evaluate", str(tmp_path / "p.csv"), "--output", str(tmp_path), "--replicates", "200"]) == 0
        )
        numbers = json.loads((tmp_path / "metrics.json").read_text())
        low, high = numbers["intervals"]["overall"]["balanced_accuracy"]
        assert low < numbers["aggregates"]["overall_balanced_accuracy"] < high
        assert numbers["intervals"]["resampled"] == "slides"
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_species_and_tumours_have_rows_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    figures = draw_predictions(np.random.default_rng(0), slides=40).drop(columns="label", errors="ignore")
    truth = draw_predictions(np.random.default_rng(0), slides=40).drop(columns=["class", "confidence"])
    canine = np.arange(len(truth)) % 3 == 0
    truth["species"] = np.where(canine, "canine", None)
    truth["tumor"] = "lymphoma"
    figures.to_csv(tmp_path / "p.csv", index=False)
    truth.to_csv(tmp_path / "truth.csv", index=False)
    command = ["evaluate", str(tmp_path / "p.csv"), "--truth", str(tmp_path / "truth.csv")]
    assert amf([*command, "--output", str(tmp_path), "--replicates", "100"]) == 0

    numbers = json.loads((tmp_path / "metrics.json").read_text())
    groups = numbers["groups"]
    assert list(groups) == ["species_canine", "species_not published", "tumor_lymphoma"]
    assert not {"species_canine", "tumor_lymphoma"} & set(numbers["aggregates"]), "the organisers have none"
    own = figures[canine]
    expected = balanced_accuracy_score(truth["label"][canine], own["class"] == "atypical")
    assert groups["species_canine"]["balanced_accuracy"] == pytest.approx(expected)
    assert numbers["figures"]["species_canine"]["all"] == canine.sum()
    low, high = numbers["intervals"]["species_canine"]["balanced_accuracy"]
    assert low < expected < high
    assert groups["tumor_lymphoma"]["roc_auc"] == numbers["aggregates"]["overall_roc_auc"]
    assert "species: canine" in capsys.readouterr().out
    assert "<td>tumour: lymphoma</td>" in (tmp_path / "report.html").read_text()


def test_table_without_domains_and_slides(tmp_path: Path) -> None:
    figures = draw_predictions(np.random.default_rng(0), slides=20).drop(columns=["slide", "domain"])
    figures.to_parquet(tmp_path / "p.parquet")
    assert (
        amf(["evaluate", str(tmp_path / "p.parquet"), "--output", str(tmp_path), "--replicates", "100"]) == 0
    )
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["intervals"]["resampled"] == "figures"
    assert list(numbers["figures"]) == ["overall"]
    assert "The predictions name no domains." in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "absent.csv: no such file"),
        (["p.csv", "--patches", "absent"], "absent is not a folder"),
        (["p.csv", "--output", "p.csv"], "p.csv cannot be written into: "),
    ],
)
def test_user_errors_are_one_sentence(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    draw_predictions(np.random.default_rng(0), slides=10).to_csv("p.csv", index=False)
    assert amf(["evaluate", *arguments, "--replicates", "50"]) == 2
    stderr = capsys.readouterr().err
    assert message in stderr
    assert stderr.count("\n") == 1
