"""Checkpoints that survive a kill at any moment: written aside, synced, renamed; the one before is kept."""

from pathlib import Path
from typing import Any

import torch

from amf.errors import DataError
from amf.files import written_whole

FORMAT = 2
"""Grows when a state of before cannot continue: 2 exempts norms and biases from weight decay."""
CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"


def save_checkpoint(run: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text, lists, dicts) as the run's current checkpoint."""
    current = run / CURRENT
    with written_whole(current) as partial:
        try:
            torch.save({"format": FORMAT, **state}, partial)
        except RuntimeError as error:  # as torch reports a full disk
            raise DataError(
                f"{current} cannot be written, the last good checkpoint stays: {error}"
            ) from error
        if current.exists():
            current.replace(run / PREVIOUS)


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that is whole; None where the run has not saved one yet.

    Raises
    ------
    DataError : there are checkpoints, but none can be read, or the newest is of another format.
    """
    damaged = []
    for name in (CURRENT, PREVIOUS):
        path = run / name
        if not path.exists():
            continue
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a truncated file fails in many ways
            damaged.append(path)
            print(f"{path} is damaged ({repr(error).splitlines()[0]}); trying the one before", flush=True)
            continue
        if (found := state.get("format", 1)) != FORMAT:
            raise DataError(
                f"{path} has the format {found}, expected {FORMAT}: start the run anew, or finish it with "
                "the version of amf that wrote it"
            )
        return state
    if damaged:
        raise DataError(f"{damaged[0]} is damaged and no earlier checkpoint can be read: start the run anew")
    return None


def remove_checkpoints(run: Path) -> None:
    """Free the space of a run's checkpoints once its results are all that is wanted of it."""
    for name in (CURRENT, PREVIOUS):
        (run / name).unlink(missing_ok=True)
