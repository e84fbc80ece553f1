"""A Slurm cluster of two nodes on this machine, from Debian's packages slurm-wlm and munge; needs root."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

CONFIGURATION = Path("/etc/slurm/slurm.conf")  # jobs do not inherit SLURM_CONF
NODES = ("n1", "n2")
DAEMONS = ("munged", "slurmctld", "slurmd")

# A node that does not answer for SlurmdTimeout seconds is down; its job waits for cred_expire seconds and is
# started elsewhere, as JobRequeue asks by default.
TEXT = """\
ClusterName=amf
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort=16817
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
SlurmdTimeout=5
SlurmdParameters=config_overrides
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=16821 CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=16822 CPUs=1 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES State=UP
"""


@dataclass
class Cluster:
    """A running cluster.

    Attributes
    ----------
    folder : of its files. nodes : the process of each node's slurmd.
    """

    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]]

    def ended(self) -> list[dict[str, str]]:
        """A row each time a job ended, with JobId, JobState, NodeList and more."""
        lines = (self.folder / "jobs.txt").read_text().splitlines()
        return [dict(pair.split("=", 1) for pair in line.split() if "=" in pair) for line in lines]

    def kill_node(self, name: str) -> None:
        """What a power cut does: slurmd, its job's steps and all that they run are gone without a word."""
        jobs = processes_of(name)
        steps = [parent for job in jobs for parent in job.parents() if parent.name().startswith("slurmstepd")]
        self.nodes[name].kill()
        for process in (*steps, *jobs):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.nodes.pop(name).wait()


def processes_of(name: str) -> list[psutil.Process]:
    """The processes that a node's jobs have started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURMD_NODENAME") == name:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run both nodes for as long as the block lasts; what was started is ended by its process id."""
    assert not CONFIGURATION.exists(), f"{CONFIGURATION} is there: this machine has a cluster of its own"
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)  # munged wants its socket where everybody can reach it
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    CONFIGURATION.write_text(TEXT.format(folder=folder, host=socket.gethostname()))
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> subprocess.Popen[bytes]:
        log = folder / f"{Path(command[0]).name}{len(started)}.log"
        with log.open("wb") as output:
            started.append(subprocess.Popen(command, stdout=output, stderr=output))
        return started[-1]

    try:
        files = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "seed", "log")]
        start("munged", "--foreground", f"--socket={folder}/munge.socket", *files)
        until((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D")
        nodes = {name: start("slurmd", "-D", "-N", name) for name in NODES}
        until(lambda: _call("sinfo", "-h", "-o", "%t").split() == ["idle"], "both nodes")
        yield Cluster(folder, nodes)
    finally:
        for job in _call("squeue", "-h", "-o", "%i").split():
            _call("scancel", job)
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(30)
        CONFIGURATION.unlink()
        shutil.rmtree(folder)


def until(reached: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait for something that has to come."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"{what} did not come in {seconds:.0f} s"
        time.sleep(0.02)


def _call(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def missing() -> list[str]:
    """What a cluster needs and this machine lacks."""
    lacks = [name for name in DAEMONS if shutil.which(name) is None]
    return lacks + ([] if os.geteuid() == 0 else ["root"])
