import json
import subprocess
import sys
from pathlib import Path

import pytest

from test.container.check_output import TOLERANCE, differences, faults_of_format

SCRIPT = Path(__file__).parent / "check_output.py"
VALID = [{"class": "atypical", "confidence": 0.9}, {"class": "normal", "confidence": 0.25}]


def test_valid_answer_has_no_faults():
    assert faults_of_format(VALID, pages=2) == []


@pytest.mark.parametrize("pages", [1, 3])
def test_wrong_number_of_pages_is_a_fault(pages):
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


def test_a_confidence_may_differ_by_the_tolerance_and_no_more():
    near = [VALID[0], {"class": "normal", "confidence": 0.25 + 0.9 * TOLERANCE}]
    far = [VALID[0], {"class": "normal", "confidence": 0.25 + 1.1 * TOLERANCE}]

    assert differences(near, VALID) == []
    assert len(differences(far, VALID)) == 1
    assert differences(far, VALID)[0].startswith("page 2 ")


def test_another_class_is_a_difference_though_the_confidence_agrees():
    turned = [VALID[0], {"class": "atypical", "confidence": 0.25}]

    assert differences(turned, VALID) == ["page 2 is atypical, expected normal"]


def test_confidence_of_the_winning_class_is_caught():
    """The paper's own container wrote P(the class that won): every page of a normal figure then differs."""
    of_the_winner = [VALID[0], {"class": "normal", "confidence": 0.75}]

    assert len(differences(of_the_winner, VALID)) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (VALID, 0),
        (VALID[:1], 1),
        ([VALID[0], {"class": "normal", "confidence": 0}], 1),
        (VALID[::-1], 1),
    ],
)
def test_the_script_ends_with_the_right_code(tmp_path, answer, code):
    (tmp_path / "answer.json").write_text(json.dumps(answer))
    (tmp_path / "expected.json").write_text(json.dumps(VALID))

    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "answer.json", tmp_path / "expected.json"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == code
    assert bool(done.stderr) == bool(code)
