"""Measures one side of one stage in a separate process."""

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
    """The result of one process.

    Attributes:
        count: items of the sample.
        passes: number of passes over them.
        seconds: time of all passes.
        peak_mb: peak resident memory in MB (10^6 bytes) after the preparation.
        peak_gpu_mb: peak memory that torch held on the GPU; None without a GPU.
    """

    count: int
    passes: int
    seconds: float
    peak_mb: float
    peak_gpu_mb: float | None

    @property
    def items(self) -> int:
        """Total number of processed items."""
        return self.count * self.passes


def make_inputs(names: Iterable[str], inputs: Inputs) -> None:
    """Make the inputs of the stages before the measurements, so that their memory does not count."""
    for name in names:
        STAGES[name].ours.prepare(inputs)


def measure(name: str, side: Side, inputs: Inputs, seconds: float, count: int | None = None) -> Measurement:
    """Process the sample's first ``count`` items once, and again until half of ``seconds`` is over.

    Without ``count``, process the whole batches that fit into about ``seconds``, at least one.
    """
    stage = STAGES[name]
    work = stage.comparator if side == "comparator" else stage.ours
    run = work.prepare(inputs)
    run(1)  # warm-up
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
