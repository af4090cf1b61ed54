"""Starts the processes of a training, one for each GPU. Trains in this process if one is enough."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from zeshel_tasks import errors
from zeshel_tasks.compute import telemetry
from zeshel_tasks.compute.disk import full_disk_named
from zeshel_tasks.compute.interrupt import on_sigterm
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.errors import TryAgain, ZeshelError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.logs import set_up_logs

log = logging.getLogger(__name__)


def processes_for(config: EncoderConfig) -> int:
    """Returns the number of processes: one per GPU with ``data_parallel``, unless one device is named; else one.

    There are at most as many as mentions in a step: a further one would never have any to compute.
    """
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


def run_in_processes(function: Callable[[Any], None], argument: Any, processes: int, scratch: Path) -> None:
    """Runs ``function(argument)`` in each of ``processes`` processes that torch.distributed connects.

    Args:
        function: must be importable by name.
        argument: must be picklable.
        processes: 1 runs the function in this process.
        scratch: a local directory in which a process writes its error.

    Raises:
        ZeshelError: the error that a process raised. SIGTERM is passed on to all processes.
        TryAgain: a process was killed or timed out.
        ProcessRaisedException: a process crashed.
    """
    if processes == 1:
        function(argument)
        return
    log.info("training with %d processes", processes)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(processes)}
    arguments = (function, argument, address, scratch, telemetry.attributes())
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
    except (ProcessExitedException, ProcessRaisedException) as error:
        _raise_first_error(scratch)
        if isinstance(error, ProcessExitedException):
            raise TryAgain(_how_it_ended(error)) from error
        raise


def _process(
    rank: int,
    function: Callable[[Any], None],
    argument: Any,
    address: dict[str, str],
    scratch: Path,
    attributes: dict[str, str],
) -> None:
    os.environ.update(address, RANK=str(rank), LOCAL_RANK=str(rank))
    set_up_logs(logging.INFO if rank == 0 else logging.ERROR)
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // int(address["WORLD_SIZE"])))
    telemetry.take_over(attributes)
    try:
        with full_disk_named(), telemetry.exported() if rank == 0 else nullcontext():
            function(argument)
    except ZeshelError as error:
        (scratch / f"error-{rank}.json").write_text(to_json([type(error).__name__, str(error)]))
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
