"""Starts the processes of a training on this machine, one for each GPU. Trains in this process if one is enough.

Over several machines, either a launcher starts all processes, or this module does so on each of them
(``compute/gang_seat.py``).
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from zeshel_tasks import errors
from zeshel_tasks.compute import telemetry
from zeshel_tasks.compute.disk import full_disk_named
from zeshel_tasks.compute.gang import ALONE, Gang
from zeshel_tasks.compute.gang_failure import lost_contact_named
from zeshel_tasks.compute.gang_joining import check_batch
from zeshel_tasks.compute.gang_seat import PROCESSES_A_NODE, processes_a_node, seat_in
from zeshel_tasks.compute.gang_store import AGENT_STORE
from zeshel_tasks.compute.interrupt import on_sigterm
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.errors import ConfigError, TryAgain, ZeshelError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.logs import name_process, set_up_logs

log = logging.getLogger(__name__)


def processes_for(config: EncoderConfig, gang: Gang = ALONE) -> int:
    """Returns the number of processes on this machine: one per GPU with ``data_parallel``, unless one device is named.

    There are at most as many as mentions in a step: a further one would never have any to compute. If a launcher has
    started a process for each GPU, each trains itself.

    Raises:
        ConfigError: several machines have more processes than mentions in a step, a machine has more processes than
            GPUs, or only some machines have GPUs.
    """
    if gang.size > 1:
        return _processes_in(gang, config)
    if not config.data_parallel or config.device not in ("auto", "cuda"):
        return 1
    gpus = max(1, torch.cuda.device_count())
    if gpus > config.train_batch_size:
        log.warning(
            "using %d of %d GPUs, one for each mention of a step; raise train_batch_size (now %d) to use more",
            config.train_batch_size,
            gpus,
            config.train_batch_size,
        )
    return min(gpus, config.train_batch_size)


def _processes_in(gang: Gang, config: EncoderConfig) -> int:
    gpus = torch.cuda.device_count() if config.device != "cpu" else 0
    processes = processes_a_node(os.environ, gpus) if gang.of_nodes else 1
    needed = processes if gang.of_nodes else int(os.environ["LOCAL_RANK"]) + 1
    if gpus and needed > gpus:
        name = PROCESSES_A_NODE if gang.of_nodes else "LOCAL_RANK"
        raise ConfigError(f"{name}: expected a process for each GPU of this machine ({gpus}), got {needed} processes")
    gang.check_same({"computes on a GPU": gpus > 0})
    check_batch(config, gang.size * processes)
    return processes


def run_in_processes(
    function: Callable[[Any], None], argument: Any, processes: int, scratch: Path, gang: Gang = ALONE
) -> None:
    """Runs ``function(argument)`` in each of ``processes`` processes that torch.distributed connects.

    Args:
        function: must be importable by name.
        argument: must be picklable.
        processes: 1 runs the function in this process, unless this process stands for a machine of several.
        scratch: a local directory in which a process writes its error.
        gang: the processes of other machines.

    Raises:
        ZeshelError: the error that a process raised. SIGTERM is passed on to all processes.
        TryAgain: a process was killed or timed out.
        ProcessRaisedException: a process crashed.
    """
    if processes == 1 and not gang.of_nodes:
        function(argument)
        return
    ranks = _Ranks.on_this_machine(processes, gang)
    log.info("training with %d processes, %d of them on this machine", ranks.total, processes)
    arguments = (function, argument, ranks, scratch, telemetry.attributes())
    try:
        with on_sigterm() as interrupt:  # from before the start, or the processes would outlive this one
            # As clean as "spawn", and tests let the server import torch once for all their processes.
            context = start_processes(  # type: ignore[no-untyped-call]
                _process, arguments, nprocs=processes, join=False, start_method="forkserver"
            )
            handed_on = False
            while not context.join(timeout=1):
                if interrupt.requested and not handed_on:
                    handed_on = True
                    for process in context.processes:
                        process.terminate()
                if gang.broken:  # they wait for processes of another machine, and may never notice
                    for process in context.processes:
                        process.kill()
    except (ProcessExitedException, ProcessRaisedException) as error:
        _raise_first_error(scratch)
        if isinstance(error, ProcessExitedException):
            raise TryAgain(_how_it_ended(error)) from error
        raise


@dataclass(frozen=True)
class _Ranks:
    """The numbers of the processes of one machine among those of all.

    Attributes:
        first: the lowest of them.
        here: number of processes on this machine.
        total: number of processes on all machines.
        variables: where the processes meet.
    """

    first: int
    here: int
    total: int
    variables: dict[str, str]

    @classmethod
    def on_this_machine(cls, processes: int, gang: Gang) -> _Ranks:
        counts = [int(count) for count in gang.gather(str(processes))]
        if gang.size == 1:
            variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        else:
            seat = seat_in(os.environ)
            assert seat is not None
            # The first machine's process has opened the port already, as torchrun does for its processes.
            variables = {"MASTER_ADDR": seat.address, "MASTER_PORT": str(seat.port), AGENT_STORE: "True"}
        return cls(sum(counts[: gang.rank]), processes, sum(counts), variables)

    def variables_of(self, process: int) -> dict[str, str]:
        """Returns the environment of a process, given its number on this machine."""
        numbers = {"RANK": self.first + process, "LOCAL_RANK": process, "WORLD_SIZE": self.total}
        return self.variables | {name: str(number) for name, number in numbers.items()}


def _process(
    number: int,
    function: Callable[[Any], None],
    argument: Any,
    ranks: _Ranks,
    scratch: Path,
    attributes: dict[str, str],
) -> None:
    os.environ.update(ranks.variables_of(number))
    first = ranks.first + number == 0
    set_up_logs(logging.INFO if first else logging.ERROR)
    if ranks.total > ranks.here:
        name_process(f"rank {ranks.first + number} of {ranks.total}", progress=first)
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks.here))
    telemetry.take_over(attributes)
    try:
        with full_disk_named(), lost_contact_named(), telemetry.exported() if first else nullcontext():
            function(argument)
    except ZeshelError as error:
        (scratch / f"error-{number}.json").write_text(to_json([type(error).__name__, str(error)]))
        raise
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _raise_first_error(scratch: Path) -> None:
    for path in sorted(scratch.glob("error-*.json")):
        name, message = json.loads(path.read_text())
        kind: type[ZeshelError] = getattr(errors, name)
        raise kind(message)


def _how_it_ended(error: ProcessExitedException) -> str:
    which = f"training process {error.error_index + 1}"
    if error.signal_name == "SIGKILL":
        return f"{which} was killed, probably because it ran out of memory; lower train_batch_size"
    return f"{which} ended by {error.signal_name}" if error.signal_name else f"{which} gave up ({error.exit_code})"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
