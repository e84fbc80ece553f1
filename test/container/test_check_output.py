"""Answers that the organisers' evaluation would refuse, or that differ from the known one, are found."""

import json
import sys
from pathlib import Path

import pytest

from test.container.check_output import TOLERANCE, differences, faults_of_format, main

VALID = [{"class": "atypical", "confidence": 0.9}, {"class": "normal", "confidence": 0.25}]


def test_an_answer_has_one_entry_a_page():
    assert faults_of_format(VALID, pages=2) == []
    for pages in (1, 3):
        assert f"expected one for each of {pages} pages" in faults_of_format(VALID, pages)[0]


@pytest.mark.parametrize("answer", ['{"class": "normal", "confidence": 0.5}', "null", '"normal"'])
def test_answer_must_be_a_list(answer):
    assert "expected a list" in faults_of_format(json.loads(answer), pages=1)[0]


@pytest.mark.parametrize(
    "entry",
    [
        '{"class": "normal"}',
        '{"confidence": 0.5}',
        '{"class": "normal", "confidence": 0.5, "page": 1}',
        '{"Class": "normal", "confidence": 0.5}',
        '["normal", 0.5]',
        '{"class": "mitotic", "confidence": 0.5}',
        '{"class": 1, "confidence": 0.5}',
        '{"class": null, "confidence": 0.5}',
        '{"class": "normal", "confidence": 0}',
        '{"class": "atypical", "confidence": 1}',
        '{"class": "atypical", "confidence": true}',
        '{"class": "normal", "confidence": "0.5"}',
        '{"class": "normal", "confidence": null}',
        '{"class": "normal", "confidence": NaN}',
        '{"class": "normal", "confidence": Infinity}',
        '{"class": "normal", "confidence": 1.0001}',
        '{"class": "normal", "confidence": -0.0001}',
    ],
)
def test_each_malformed_entry_is_one_fault_that_names_its_page(entry):
    faults = faults_of_format([VALID[0], json.loads(entry)], pages=2)

    assert len(faults) == 1
    assert faults[0].startswith("page 2 ")


@pytest.mark.parametrize(
    ("second", "fault"),
    [
        ({"class": "normal", "confidence": 0.25 + 0.9 * TOLERANCE}, None),
        ({"class": "normal", "confidence": 0.25 + 1.1 * TOLERANCE}, "page 2 has confidence 0.2720, expected"),
        ({"class": "atypical", "confidence": 0.25}, "page 2 is atypical, expected normal"),
        # P(the class that won), as the paper's own container wrote
        ({"class": "normal", "confidence": 0.75}, "page 2 has confidence 0.7500, expected"),
    ],
)
def test_another_class_or_confidence_is_a_difference(second, fault):
    found = differences([VALID[0], second], VALID)
    assert len(found) == (fault is not None)
    assert fault is None or found[0].startswith(fault)


@pytest.mark.parametrize(("answer", "code"), [(VALID, 0), (VALID[:1], 1), (VALID[::-1], 1)])
def test_the_script_ends_with_the_right_code(tmp_path, monkeypatch, capsys, answer, code):
    monkeypatch.chdir(tmp_path)
    Path("answer.json").write_text(json.dumps(answer))
    Path("expected.json").write_text(json.dumps(VALID))
    monkeypatch.setattr(sys, "argv", ["check_output.py", "answer.json", "expected.json"])
    assert main() == code
    assert bool(capsys.readouterr().err) == bool(code)
