"""Torch's key-value store at ``MASTER_ADDR:MASTER_PORT``, through which the processes of a gang talk.

It also connects the processes of torch.distributed.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import TYPE_CHECKING

from zeshel_tasks.compute.gang_seat import Seat
from zeshel_tasks.errors import TryAgain
from zeshel_tasks.text.safe_text import quoted

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)

AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"
"""Set by torchrun, whose first agent runs the key-value store."""
ATTEMPT = "TORCHELASTIC_RESTART_COUNT"


def connected_store(seat: Seat, minutes: float) -> Store:
    """Connects to the key-value store, which runs in the first process, or in torchrun.

    Raises:
        TryAgain: there is nobody at the address, or another program has its port.
    """
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    log.info("connecting to %s:%d as process %d of %d", seat.address, seat.port, seat.rank, seat.size)
    by_torchrun = os.environ.get(AGENT_STORE) == "True" and not seat.is_node
    try:
        store = TCPStore(
            seat.address,
            seat.port,
            is_master=seat.rank == 0 and not by_torchrun,
            timeout=timedelta(minutes=minutes / 2),  # torch tries twice
            wait_for_workers=False,
            multi_tenant=True,  # torch.distributed connects to the same one
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TryAgain(
            f"MASTER_ADDR, MASTER_PORT: expected the training's first process to listen on {quoted(seat.address)} port "
            f"{seat.port} within {minutes:g} minutes (stall_minutes), got: {reason}"
        ) from error
    return PrefixStore(f"gang/{os.environ.get(ATTEMPT, '0')}", store)


def leave_torch() -> None:
    """Ends the connections of torch.distributed."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
