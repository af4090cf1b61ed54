"""Times work on a device. Waits for launched work, and does not count the setup at first use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

_WARM_UP = 2
_FEWEST, _MOST = 2, 100_000


def synchronize(device: torch.device) -> None:
    """Wait for all launched work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of_one(
    run: Callable[[], object], seconds: float, device: torch.device, timed: Callable[[], None] = lambda: None
) -> float:
    """Return the mean seconds of one call, over as many calls as fit into ``seconds`` (at least 2).

    Waits for the device only at the end, so that the host runs ahead as it does in a stage.

    Args:
        run: the work to time.
        seconds: approximate total time, without the warm-up.
        device: the device that does the work.
        timed: called after the warm-up.
    """
    for _ in range(_WARM_UP):
        run()
    synchronize(device)
    count = min(_MOST, max(_FEWEST, math.ceil(seconds / max(_elapsed(run, 1, device), 1e-6))))
    timed()
    return _elapsed(run, count, device) / count


def _elapsed(run: Callable[[], object], count: int, device: torch.device) -> float:
    started = time.perf_counter()
    for _ in range(count):
        run()
    synchronize(device)
    return time.perf_counter() - started
