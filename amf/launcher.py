"""Whether a launcher started this process, or its variables are left over from another run.

Accelerate believes the variables: with a leftover RANK and WORLD_SIZE it waits for processes that never come.
"""

import os
import socket
from collections.abc import Mapping

from amf.errors import DataError

ALONE = {  # variable -> its value in a process that has no others beside it; None: only a launcher sets it
    "RANK": None,
    "LOCAL_RANK": None,
    "WORLD_SIZE": "1",
    "PMI_RANK": "0",
    "PMI_SIZE": "1",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_COMM_WORLD_SIZE": "1",
    "MV2_COMM_WORLD_RANK": "0",
    "MV2_COMM_WORLD_SIZE": "1",
}
ANSWER_SECONDS = 10.0
"""How long the launcher's store may take to accept a connection; it listens before any process starts."""


def check_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Pass a process that is alone, or that a launcher which still runs has started.

    Raises
    ------
    DataError : RANK, WORLD_SIZE, LOCAL_RANK or a variable of MPI is set, and no launcher answers.
    """
    given = {name: environment[name] for name in ALONE if environment.get(name, ALONE[name]) != ALONE[name]}
    if given and not _launcher_answers(environment):
        raise DataError(
            f"the environment has {', '.join(f'{name}={value}' for name, value in given.items())}, but no "
            "launcher runs: start by `accelerate launch`, or unset them to work in one process"
        )


def _launcher_answers(environment: Mapping[str, str]) -> bool:
    """Whether the variables are whole, and the store that a launcher keeps open at MASTER_ADDR listens."""
    try:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        place = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or not environment["LOCAL_RANK"]:
            return False
        if not 0 <= int(environment["LOCAL_RANK"]) <= rank < world:
            return False
        socket.create_connection(place, ANSWER_SECONDS).close()
    except (KeyError, ValueError, OverflowError, OSError):
        return False
    return True
