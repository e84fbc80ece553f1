"""Score items and write what came of them: what `amf predict` and `amf slide` share."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from amf.bulk.items import Item
from amf.bulk.join import join
from amf.bulk.score import score_share
from amf.bulk.shares import Share
from amf.errors import DataError
from amf.inference.predict import Predictor
from amf.model import bundle
from amf.model.device import share_freed_memory
from amf.model.digest import FILE_NAME, file_digest
from amf.model.shipped import shipped_bundle

if TYPE_CHECKING:
    from accelerate import PartialState

LONGEST_WAIT = timedelta(days=30)
"""How much sooner than the last of the processes under a launcher the first may be through."""


@dataclass(frozen=True)
class Scorer:
    """A bundle on a device, and this process's share of the work.

    Attributes
    ----------
    bundle : what identifies the bundle: a SHA-256, and how it is narrowed.
    shard : the share that was asked for; None to score everything, with the other processes of a launcher.
    processes : those that a launcher started, as Accelerate sees them; None without one.
    by_content : tell by their content whether files have changed since a run was ended.
    """

    predictor: Predictor
    bundle: str
    shard: Share | None = None
    processes: "PartialState | None" = None
    by_content: bool = False

    @property
    def share(self) -> Share:
        """As asked for, else of the process's rank under a launcher, else everything."""
        if self.shard is None and self.processes is not None:
            return Share(self.processes.process_index + 1, self.processes.num_processes)
        return self.shard or Share()

    def score(self, items: Sequence[Item], output: Path, more: Mapping[str, Any] | None = None) -> None:
        """Score this process's share; unless one was asked for, the output is written once all are scored.

        Parameters
        ----------
        more : what the parts say besides, for the output's format.

        Raises
        ------
        DataError : some could not be scored, which is said once the others are written; or as `score_share`.
        """
        share, started = self.share, time.perf_counter()
        count = score_share(items, self.predictor, self.bundle, output, share, self.by_content, more)
        seconds = time.perf_counter() - started
        unit = items[0].unit if items else Item.unit
        name = f"share {share}: " if share.count > 1 else ""
        print(f"{name}scored {count} {unit}s in {seconds:.1f} s, {count / seconds:.0f} a second")
        if self.shard is not None:
            print(f"{share.part(output)} holds share {share}: `amf join` writes {output} from all of them")
            return
        if self.processes is not None:
            _wait_for(self.processes)
            if not self.processes.is_main_process:
                return
        parts = [Share(number, share.count).part(output) for number in range(1, share.count + 1)]
        joined = join(parts, output)
        for part in parts:
            part.unlink(missing_ok=True)
        print(f"wrote {output} with {joined.rows} figures")
        joined.raise_faults()


def open_scorer(
    model: Path | None = None,
    device: str = "auto",
    members: int | None = None,
    views: int | None = None,
    by_content: bool = False,
    shard: Share | None = None,
) -> Scorer:
    """Load a bundle, or the one that ships, narrowed as asked, for this process's share.

    Raises
    ------
    DataError : a share was asked for under a launcher. BundleError, DeviceError : as `Predictor`.
    """
    processes = _processes(device)
    if processes is not None and shard is not None:
        raise DataError("--shard is for processes without a launcher, whose processes share by themselves")
    share_freed_memory()
    folder = model or shipped_bundle()
    loaded = bundle.load(folder).narrowed(members, views)
    # bundle.json holds the weights' hashes, so that its own stands for the whole bundle.
    digest = file_digest(folder / FILE_NAME)
    narrowed = {"members": members, "views": views}
    how = "".join(f" {name}={value}" for name, value in narrowed.items() if value is not None)
    return Scorer(Predictor(loaded, device), digest + how, shard, processes, by_content)


def _processes(device: str) -> "PartialState | None":
    """Those that a launcher started, each with a GPU of its own where there are some."""
    if "LOCAL_RANK" not in os.environ:
        return None
    from accelerate import PartialState

    on_cpu = device == "cpu" or not torch.cuda.is_available()
    return PartialState(cpu=on_cpu, timeout=LONGEST_WAIT)


def _wait_for(processes: "PartialState") -> None:
    try:
        processes.wait_for_everyone()
    except RuntimeError as error:
        raise DataError(
            "another process ended before its share was scored: the same command goes on where each was"
        ) from error
