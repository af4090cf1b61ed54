"""Seconds that a device takes: what is launched is waited for, and what is set up at first use is not counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

_WARM_UP = 2
_FEWEST, _MOST = 2, 100_000


def synchronize(device: torch.device) -> None:
    """Waits for all that was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of_one(
    run: Callable[[], object], seconds: float, device: torch.device, timed: Callable[[], None] = lambda: None
) -> float:
    """Mean seconds of one call, of as many as fit into ``seconds`` (2 at least).

    The device is waited for at the end alone, so that the host runs ahead as it does in a stage.

    Args:
        run: what is timed.
        seconds: about so long, warm-up excluded.
        device: that computes.
        timed: called when the warm-up is over.
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
