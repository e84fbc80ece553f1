"""How many cores this process may really use: fewer than the machine has, in a container or a batch job."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """The cores that the process is bound to, or what its control groups' CPU quota comes to, if less."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *map(int, _quotas(Path("/proc/self/cgroup"), CGROUPS))]))


def _quotas(own: Path, mount: Path) -> Iterator[float]:
    """The quotas, in cores, of the groups that `own` lists and of those above them, in either version."""
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux, or not ours to read
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / "cpu" if controllers else mount
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                if controllers:
                    quota, period = (
                        (folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
                    )
                else:
                    quota, period = (folder / "cpu.max").read_text().split()
                if quota != "max" and int(quota) > 0:
                    yield int(quota) / int(period)
            except (OSError, ValueError):  # a group of another container, or one without a limit
                pass
            if folder == top:
                break
