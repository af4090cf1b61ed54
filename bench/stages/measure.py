"""One side of one stage, measured in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch

from bench.stages.inputs import Inputs, Run
from bench.stages.stage_list import STAGES
from zeshel_tasks.compute.machine import peak_gpu_memory_mb, peak_memory_mb, reset_peak_memory

Side = Literal["comparator", "ours"]
_GROWTH = 4


@dataclass(frozen=True)
class Measurement:
    """What one process found.

    Attributes:
        count: items of the sample.
        passes: how often they were done.
        seconds: that this took.
        peak_mb: resident memory at its highest, in MB (10^6 bytes), from when all was ready.
        peak_gpu_mb: memory that torch held on the GPU at its highest; None without one.
    """

    count: int
    passes: int
    seconds: float
    peak_mb: float
    peak_gpu_mb: float | None

    @property
    def items(self) -> int:
        """Done in all."""
        return self.count * self.passes


def make_inputs(names: Iterable[str], inputs: Inputs) -> None:
    """Makes what the stages need, so that no measurement has what this took in its memory."""
    for name in names:
        STAGES[name].ours.prepare(inputs)


def measure(name: str, side: Side, inputs: Inputs, seconds: float, count: int | None = None) -> Measurement:
    """Does the sample's first ``count`` items once, and again until half of ``seconds`` are over.

    Without ``count``, so many as are done in about ``seconds``: whole batches, one at least, no more than there are.
    """
    stage = STAGES[name]
    work = stage.comparator if side == "comparator" else stage.ours
    run = work.prepare(inputs)
    run(1)  # what is set up at first use
    if count is None:
        count = _sample_size(run, work.batch(inputs), stage.available(inputs), seconds)
    reset_peak_memory()
    elapsed, passes = 0.0, 0
    while passes == 0 or elapsed < seconds / 2:
        elapsed += _seconds(run, count)
        passes += 1
    return Measurement(count, passes, elapsed, peak_memory_mb(), peak_gpu_memory_mb())


def _sample_size(run: Run, batch: int, available: int, seconds: float) -> int:
    count = 1
    while (elapsed := _seconds(run, count)) < seconds / 10 and count < available:
        count = min(count * _GROWTH, available)
    batches = max(1, round(count / elapsed * seconds / batch))
    return min(batches * batch, max(batch, available // batch * batch), available)


def _seconds(run: Run, count: int) -> float:
    started = time.perf_counter()
    run(count)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started
