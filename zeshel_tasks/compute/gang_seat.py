"""What launchers tell a process about the training that it belongs to: torchrun, mpirun and jobs on Kubernetes.

A *gang* is all processes that train one model. They start, fail and are tried again together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted

PROCESSES_A_NODE = "PET_NPROC_PER_NODE"


class _Names(NamedTuple):
    """The variables of a launcher."""

    rank: str
    size: str
    local_rank: str | None
    address: str = "MASTER_ADDR"
    port: str = "MASTER_PORT"


# In this order: torchrun's processes also see the variables from which torchrun itself was configured (PET_...).
_OF_PROCESSES = (
    _Names("RANK", "WORLD_SIZE", "LOCAL_RANK"),  # torchrun, PyTorchJob, and manifests that set them
    _Names("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),  # Open MPI
    _Names("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),  # MPICH and Intel MPI
)
_OF_NODES = _Names("PET_NODE_RANK", "PET_NNODES", None, "PET_MASTER_ADDR", "PET_MASTER_PORT")  # TrainJob


@dataclass(frozen=True)
class Seat:
    """The place of a process in its gang.

    Attributes:
        rank: number of the process, from 0.
        size: number of processes, at least 2.
        local_rank: number of the process on its machine, which chooses its GPU.
        address: host on which the first process listens.
        port: its port.
        is_node: True if the launcher starts one process on each machine, which starts one for each of its GPUs.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    is_node: bool = False

    def variables(self) -> dict[str, str]:
        """Returns what torch.distributed reads from the environment."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_RANK": str(self.local_rank),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def seat_in(environment: Mapping[str, str]) -> Seat | None:
    """Returns the place of this process, or None if it is the only one.

    Raises:
        ConfigError: a variable is missing or has a wrong value.
    """
    for names in (*_OF_PROCESSES, _OF_NODES):
        if environment.get(names.rank) or (environment.get(names.size) and names is not _OF_NODES):
            return _seat(names, environment)
    return None


def leads_in(environment: Mapping[str, str]) -> bool:
    """Returns True for the first process, and for one on its own.

    Raises:
        ConfigError: see :func:`seat_in`.
    """
    seat = seat_in(environment)
    return seat is None or seat.rank == 0


def processes_a_node(environment: Mapping[str, str], gpus: int) -> int:
    """Returns the number of processes that a node starts: as the launcher says, or else one for each GPU.

    Raises:
        ConfigError: the launcher says something else than a number, ``auto``, ``gpu`` or ``cpu``.
    """
    told = environment.get(PROCESSES_A_NODE, "auto")
    if told in ("auto", "gpu", "cpu"):
        return max(1, gpus)
    return _number(PROCESSES_A_NODE, environment, 1, 1024)


def _seat(names: _Names, environment: Mapping[str, str]) -> Seat | None:
    size = _number(names.size, environment, 1, 1 << 20, f", because {names.rank} is set")
    rank = _number(names.rank, environment, 0, size - 1, f", because {names.size} is {size}")
    if size == 1:
        return None
    local_rank = 0
    if names.local_rank is not None and environment.get(names.local_rank):
        local_rank = _number(names.local_rank, environment, 0, rank)
    address = environment.get(names.address, "")
    if not address:
        raise ConfigError(f"{names.address}: expected the host of the process with rank 0, got nothing")
    port = _number(names.port, environment, 1, 65535)
    return Seat(rank, size, local_rank, address, port, is_node=names is _OF_NODES)


def _number(name: str, environment: Mapping[str, str], lowest: int, highest: int, why: str = "") -> int:
    text = environment.get(name, "")
    if text.isascii() and text.isdigit() and lowest <= int(text) <= highest:
        return int(text)
    raise ConfigError(
        f"{name}: expected a number from {lowest} to {highest}{why}, got {quoted(text) if text else 'nothing'}"
    )
