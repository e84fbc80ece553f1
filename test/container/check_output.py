"""Check a job's answer as the organisers' evaluation does, and against what the fixtures are known to give.

    python3 test/container/check_output.py ANSWER EXPECTED|--form   exit code 1: each fault is a line

With --form the number of pages and the values are not checked.

Needs nothing but Python, so that test.sh runs anywhere.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

CLASSES = ("atypical", "normal")
TOLERANCE = 0.02
"""Largest difference of a confidence from the expected one. Half-precision weights are computed in
float16, bfloat16 or float32, whichever the machine is fast at; the answer may move by that and no more."""


def faults_of_format(answer: Any, pages: int) -> list[str]:
    """Say what the organisers would refuse in a parsed answer to a stack of `pages` pages."""
    if not isinstance(answer, list):
        return [f"the answer is {type(answer).__name__}, expected a list"]
    faults = []
    if len(answer) != pages:
        faults.append(f"the answer has {len(answer)} entries, expected one for each of {pages} pages")
    for page, entry in enumerate(answer, start=1):
        if not isinstance(entry, dict) or set(entry) != {"class", "confidence"}:
            faults.append(f"page {page} is {entry!r}, expected the keys class and confidence")
            continue
        if entry["class"] not in CLASSES:
            faults.append(f"page {page} has class {entry['class']!r}, expected one of {CLASSES}")
        confidence = entry["confidence"]
        # Neither int nor bool passes: a JSON number without a fraction is refused.
        if type(confidence) is not float or not math.isfinite(confidence) or not 0 <= confidence <= 1:
            faults.append(f"page {page} has confidence {confidence!r}, expected a real number from 0 to 1")
    return faults


def differences(answer: Any, expected: Any, tolerance: float = TOLERANCE) -> list[str]:
    """Compare two answers, both of valid format and equal length."""
    found = []
    for page, (ours, theirs) in enumerate(zip(answer, expected, strict=True), start=1):
        distance = abs(ours["confidence"] - theirs["confidence"])
        if distance > tolerance:
            found.append(
                f"page {page} has confidence {ours['confidence']:.4f}, "
                f"expected {theirs['confidence']:.4f} within {tolerance}"
            )
        elif ours["class"] != theirs["class"]:
            found.append(f"page {page} is {ours['class']}, expected {theirs['class']}")
    return found


def main() -> int:
    """Compare the two files named on the command line."""
    name, reference = sys.argv[1:]
    answer = json.loads(Path(name).read_text(encoding="utf-8"))
    expected = answer if reference == "--form" else json.loads(Path(reference).read_text(encoding="utf-8"))
    faults = faults_of_format(
        answer, pages=len(expected) if isinstance(expected, list) else 0
    ) or differences(answer, expected)
    for fault in faults:
        print(f"{name}: {fault}", file=sys.stderr)
    if not faults:
        largest = max(abs(a["confidence"] - b["confidence"]) for a, b in zip(answer, expected, strict=True))
        print(f"{len(answer)} pages as expected, largest difference {largest:.1e} (allowed: {TOLERANCE})")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
