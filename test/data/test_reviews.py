"""Experts' votes on their way back: joined, counted, into a patch table, as the truth of an evaluation."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from amf.cli import main as amf
from amf.data.figures import open_figures
from amf.data.recipe import load_data_recipe
from amf.data.reviews import COLUMNS, is_review, read_reviews
from amf.errors import DataError
from amf.evaluation import predictions
from docs.make_example_report import draw_patch
from test.support.fixtures import Make
from test.support.slides import lay, write_pyramid

WORDS = {"a": "atypical", "n": "normal", "u": "unsure"}


def write_votes(path: Path, expert: str, votes: dict[str, str], **columns: Any) -> Path:
    """Votes on images "0.png", …, an hour after one another."""
    rows = [
        {
            **dict.fromkeys(COLUMNS, ""),
            "image": image,
            "vote": WORDS[vote],
            "expert": expert,
            "time": f"2026-03-01T{hour:02}:00:00.000Z",
            **{name: value(image) for name, value in columns.items()},
        }
        for hour, (image, vote) in enumerate(votes.items())
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Figure by figure: AMF, NMF, a tie (one is unsure), all unsure, voted by one alone."""
    votes = {"Anna": "anauu", "Ben": "annua", "Cleo": "nnuuu"}
    return [
        write_votes(tmp_path / f"{expert}.csv", expert, {f"{k}.png": vote for k, vote in enumerate(given)})
        for expert, given in votes.items()
    ]


def test_votes_are_joined(three: list[Path]) -> None:
    reviews = read_reviews(three)
    figures = reviews.figures.set_index("image")
    assert figures["votes"].to_dict() == {
        "0.png": "110", "1.png": "000", "2.png": "10", "3.png": "", "4.png": "1"
    }  # fmt: skip
    assert figures["label"].fillna(-1).tolist() == [1, 0, -1, -1, 1]
    assert figures.loc["2.png", "detail"] == "Anna AMF, Ben NMF, Cleo -"
    said = " ".join(reviews.notes)
    assert "1 figures are ties; the first is 2.png (Anna AMF, Ben NMF, Cleo -)" in said
    assert "1 figures have no vote but unsure" in said


def test_kappa_is_cohens() -> None:
    """20 figures: both yes 8, both no 5, only the first yes 4, only the second yes 3."""
    from amf.data import reviews

    table = pd.DataFrame({"A": list("1" * 12 + "0" * 8), "B": list("1" * 8 + "0" * 9 + "1" * 3)})
    observed, chance = 13 / 20, 12 / 20 * 11 / 20 + 8 / 20 * 9 / 20
    assert f"{(observed - chance) / (1 - chance):.3f} on 20 figures" in reviews._kappa(table, "A", "B")
    same = pd.DataFrame({"A": ["1", "1", ""], "B": ["1", "1", "0"]})
    assert "not defined, both said the same of all 2 figures" in reviews._kappa(same, "A", "B")
    assert "no figure in common" in reviews._kappa(same.iloc[2:], "A", "B")


def test_a_later_vote_of_the_same_expert_holds(tmp_path: Path) -> None:
    first = write_votes(tmp_path / "1.csv", "Anna", {"0.png": "a", "1.png": "a"})
    second = write_votes(tmp_path / "2.csv", "Anna", {"x.png": "a", "0.png": "n"})
    for order in ([first, second], [second, first]):
        reviews = read_reviews(order)
        votes = reviews.figures.set_index("image")["votes"].to_dict()
        assert votes == {"0.png": "0", "1.png": "1", "x.png": "1"}
        assert "1 votes were replaced by a later one" in " ".join(reviews.notes)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("vote", "maybe", "row 1: the vote is 'maybe', expected one of atypical, normal, unsure"),
        ("expert", "", "row 1: image and expert must not be empty"),
        ("time", "yesterday noon", "row 1: .*expected what a review page downloads"),
        ("time", "2026-03-01", "row 1: .*expected what a review page downloads"),
        ("page", "one", "row 1: .*expected what a review page downloads"),
    ],
)
def test_damaged_votes_are_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    path = write_votes(tmp_path / "v.csv", "Anna", {"0.png": "a"})
    pd.read_csv(path, dtype=str, keep_default_na=False).assign(**{column: value}).to_csv(path, index=False)
    with pytest.raises(DataError, match=message):
        read_reviews([path])


def test_from_slides_to_training_data(tmp_path: Path, make_bundle: Make) -> None:
    """Four slides, two experts, `amf data`: soft labels, ties left out."""
    generator = np.random.default_rng(0)
    model, expected = str(make_bundle()), {}
    for number in range(4):
        patches = [draw_patch(k % 2, generator) for k in range(8)]
        canvas, centres = lay(patches, columns=3)
        slide = write_pyramid(tmp_path / f"slide{number}.tif", canvas, 0.25)
        pd.DataFrame(centres, columns=["x", "y"]).to_csv(tmp_path / "f.csv", index=False)
        answers = tmp_path / f"answers{number}.csv"
        figures = [str(slide), str(tmp_path / "f.csv")]
        assert amf(["slide", *figures, "--output", str(answers), "--model", model]) == 0
        table = pd.read_csv(answers)
        expected |= {image: patches[k] for k, image in enumerate(table["image"])}
        for expert, votes in {"Anna": "anananan", "Ben": "anananna"}.items():
            write_votes(
                tmp_path / f"{expert}{number}.csv", expert, dict(zip(table["image"], votes, strict=True)),
                slide=lambda image: image.split("#")[0], x=lambda image: image.split("=")[1].split(",")[0],
            )  # fmt: skip
    files = [[f"{expert}{number}.csv" for expert in ("Anna", "Ben")] for number in range(4)]
    labs = [("lab 0", files[0] + files[1]), ("lab 1", files[2] + files[3])]
    sources = [{"source": "review", "dataset": lab, "votes": votes} for lab, votes in labs]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"sources": sources}))

    data = ["data", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert amf(data) == 0

    figures = open_figures(tmp_path / "out")
    assert len(figures.table) == 4 * 6
    for image, patch in zip(figures.table["image"], figures.patches, strict=True):
        np.testing.assert_array_equal(patch, expected[image])
    assert figures.label.tolist() == [1, 0, 1, 0, 1, 0] * 4
    assert figures.soft_label.tolist() == figures.label.tolist()
    assert figures.domains == ("lab 0", "lab 1")
    removed = pd.read_csv(tmp_path / "out" / "table.removed.csv")
    assert removed["reason"].tolist() == ["the experts tie"] * 8
    assert figures.table["slide"].nunique() == 4


def test_pages_of_stacks_are_figures_of_one_file(tmp_path: Path) -> None:
    path = write_votes(tmp_path / "v.csv", "Anna", {"s.tif": "a"}, page=lambda _: "1")
    table = pd.read_csv(path, dtype=str)
    pd.concat([table, table.assign(page="0", vote="normal")]).to_csv(path, index=False)
    source = {"source": "review", "dataset": "lab", "votes": ["v.csv"], "images": "stacks"}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    reading = load_data_recipe(tmp_path / "r.yaml").read(tmp_path)
    assert reading.table["image"].tolist() == ["stacks/s.tif#page=1", "stacks/s.tif#page=0"]
    assert reading.table["slide"].tolist() == ["lab/s.tif"] * 2
    assert "2 figures name no slide; each file counts as one" in " ".join(reading.notes)


def test_votes_are_the_truth_of_an_evaluation(three: list[Path], tmp_path: Path) -> None:
    answers = pd.DataFrame({"image": [f"{k}.png" for k in (4, 2, 1, 9, 0)]})
    answers = answers.assign(
        confidence=[0.1, 0.2, 0.3, 0.4, 0.9], **{"class": ["normal"] * 2 + ["atypical"] * 3}
    )
    answers.to_csv(tmp_path / "answers.csv", index=False)
    assert all(map(is_review, three))
    read = predictions.read(tmp_path / "answers.csv", three)
    assert read.figures["image"].tolist() == ["4.png", "1.png", "0.png"]
    assert read.figures["label"].tolist() == [1, 0, 1]
    assert read.figures["predicted"].tolist() == [0, 1, 1]
    assert "2 of 5 predictions have no majority of votes." in read.notes
    command = ["evaluate", str(tmp_path / "answers.csv"), "--output", str(tmp_path / "report")]
    assert amf([*command, "--replicates", "50", "--truth", *map(str, three)]) == 0
    assert "no majority of votes" in (tmp_path / "report" / "report.html").read_text()
    answers[["image"]].assign(label=1).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(DataError, match="several files can be the truth only where all are votes"):
        predictions.read(tmp_path / "answers.csv", [three[0], tmp_path / "labels.csv"])
