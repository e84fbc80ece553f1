"""Which share of the work is a process's, and the file beside the output that keeps what it has scored."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Thing = TypeVar("Thing")


@dataclass(frozen=True)
class Share:
    """The `number`-th of `count` shares, counted from 1."""

    number: int = 1
    count: int = 1

    def of(self, things: Sequence[Thing]) -> Sequence[Thing]:
        """Every `count`-th of the things: all shares together are all things, each once."""
        return things[self.number - 1 :: self.count]

    def part(self, output: Path) -> Path:
        """Where this share keeps what is scored of an output: OUTPUT.K-of-N.part."""
        return output.with_name(f"{output.name}.{self.number}-of-{self.count}.part")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def share_named(text: str) -> Share:
    """Read "K/N": the type of an argument. Raises ValueError unless K is from 1 to N."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    share = Share(int(match[1]), int(match[2])) if match else None
    if share is None or not 1 <= share.number <= share.count:
        raise ValueError(f"{text!r} is no share, expected K/N with K from 1 to N, as 2/8")
    return share
