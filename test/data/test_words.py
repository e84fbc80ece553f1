"""Labels, votes and categories as other people's tables spell them."""

import numpy as np
import pandas as pd
import pytest

from amf.data.words import label_of, names_mitotic_figure, vote_of, votes_of
from amf.errors import DataError

AMF = """AMF; amf; Atypical ; atypical mitosis; Atypical_Mitotic-Figure; mitosis (atypical); True; TRUE; yes;
         Y; 1; 1.0; 1,0"""
NMF = """NMF; normal; Normal mitotic figure; typical; MF normal; non-atypical; not atypical; False; no; N;
         0; 0.0; 0,00"""
FIGURES = """mitosis; Mitoses; mitotic figure; MITOTIC_FIGURES; Mitotic cell; MF; true mitosis; AMF; NMF;
             atypical; normal; Atypical mitosis; typical mitotic figure"""
LOOK_ALIKES = """non-mitosis; Non mitotic; not mitotic figure; not a mitosis; non-mitotic cell; no MF;
                 hard negative; Hard-negative look-alike; hard negative mitotic figure; imposter; Impostor;
                 look-alike; mitosis lookalike; Mitosislike; mitotic figure-like; negative; false positive"""
OTHERS = "Tumor; Immune cells; 0; 1; True; cell; ; None; normal cell; amitotic"


@pytest.mark.parametrize(
    ("label", "spellings"),
    [
        (1, [*AMF.split(";"), 1, 1.0, True, np.True_, np.int64(1), np.float32(1)]),
        (0, [*NMF.split(";"), 0, 0.0, False, np.False_]),
        (None, ["", "  ", None, float("nan"), pd.NA, "NA", "-"]),
    ],
)
def test_labels(label: int | None, spellings: list[object]) -> None:
    assert [label_of(word) for word in spellings] == [label] * len(spellings)
    assert [vote_of(word) for word in spellings] == [label] * len(spellings)


@pytest.mark.parametrize(
    "word", ["-1", "2", "01", "0.5", "1e0", "mitosis", "AMF look-alike", "unsure", "normal cell"]
)
def test_another_word_is_no_label(word: str) -> None:
    with pytest.raises(DataError, match="expected AMF or NMF, atypical or normal"):
        label_of(word)


def test_words_of_one_table_replace_the_usual_ones() -> None:
    assert [label_of(word, {"Ring": 1, "plain one": 0}) for word in ("ring", "Plain-One", "")] == [1, 0, None]
    assert [label_of(word, {"True": 0, "1.0": 1}) for word in (True, "1")] == [0, 1]
    assert vote_of("unsure", {"unsure": 0, "AMF": 1}) == 0
    with pytest.raises(DataError, match=r"'AMF', expected Ring$"):
        label_of("AMF", {"Ring": 1})


def test_unsure_is_no_vote() -> None:
    assert votes_of(["AMF", "unsure", "", "normal", "Not sure", None, "?", "1.0"]) == "101"
    with pytest.raises(DataError, match="'maybe'"):
        votes_of(["maybe"])


@pytest.mark.parametrize(("is_figure", "names"), [(True, FIGURES), (False, LOOK_ALIKES), (None, OTHERS)])
def test_categories(is_figure: bool | None, names: str) -> None:
    assert {name: names_mitotic_figure(name) for name in names.split(";")} == dict.fromkeys(
        names.split(";"), is_figure
    )
