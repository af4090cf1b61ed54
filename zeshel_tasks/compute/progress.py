"""Progress as log lines at a fixed interval. A bar that redraws itself is of no use in the log of a pod."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from zeshel_tasks.compute import telemetry

log = logging.getLogger(__name__)

Clock = Callable[[], float]


class Progress:
    """Logs lines like ``step 120/1,925  6.2%  loss 0.413  1,840 mentions/s  eta 14m``.

    Args:
        what: first word of the line.
        total: number of steps (or rows).
        unit: what the rate counts, in the plural.
        interval: seconds between lines.
        done: steps done before; they do not count for the rate.
        clock: seconds, as ``time.monotonic`` counts them.
    """

    def __init__(
        self, what: str, total: int, unit: str, interval: float, *, done: int = 0, clock: Clock = time.monotonic
    ) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._before, self._done, self._units = done, 0, 0
        self._pace = _Pace(interval, clock)

    def update(self, done: int = 1, *, units: int | None = None, note: str = "") -> None:
        """Counts ``done`` more steps, which consist of ``units`` units (default: ``done``)."""
        self._done += done
        self._units += done if units is None else units
        if self._pace.due():
            log.info("%s", self._line(note))
            share = (self._before + self._done) / self._total
            telemetry.record_progress(self._what, share, self.rate, self._unit)

    @property
    def seconds(self) -> float:
        """Seconds from the start to the last update."""
        return max(self._pace.elapsed(), 1e-9)

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self._units / self.seconds

    def _line(self, note: str) -> str:
        done = self._before + self._done
        left = (self._total - done) * self._pace.elapsed() / max(self._done, 1)
        parts = [f"{self._what} {done:,}/{self._total:,}", f"{done / self._total:.1%}", note]
        return "  ".join([*filter(None, parts), f"{self.rate:,.0f} {self._unit}/s", f"eta {_duration(left)}"])


class ByteProgress:
    """Logs lines like ``download 120 MB of 300 MB  40%  12 MB/s  eta 15s``.

    Args:
        verb: first word of the line.
        total: total number of bytes, if known. May be set later.
        interval: seconds between lines.
        clock: seconds, as ``time.monotonic`` counts them.
    """

    def __init__(self, verb: str, total: int | None, interval: float = 15.0, clock: Clock = time.monotonic) -> None:
        self.total = total
        self._verb, self._pace = verb, _Pace(interval, clock)

    def update(self, done: int) -> None:
        """``done`` bytes of ``total`` so far."""
        if self._pace.due():
            rate = done / self._pace.elapsed()
            log.info("%s", self._line(done, rate))
            telemetry.record_progress(self._verb, done / self.total if self.total else None, rate, "bytes")

    def _line(self, done: int, rate: float) -> str:
        pace = f"{rate / 1e6:,.1f} MB/s"
        if not self.total:
            return f"{self._verb} {done / 1e6:,.0f} MB  {pace}"
        share = f"{done / self.total:.0%}"
        eta = f"  eta {_duration((self.total - done) / rate)}" if rate > 0 else ""
        return f"{self._verb} {done / 1e6:,.0f} MB of {self.total / 1e6:,.0f} MB  {share}  {pace}{eta}"


class _Pace:
    """Decides when the next line is due."""

    def __init__(self, interval: float, clock: Clock) -> None:
        self._interval, self._clock = interval, clock
        self._started = self._last = self._now = clock()

    def due(self) -> bool:
        self._now = self._clock()
        if self._now - self._last < self._interval:
            return False
        self._last = self._now
        return True

    def elapsed(self) -> float:
        """Seconds from the start to the last call of :meth:`due`."""
        return self._now - self._started


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f}s"
    if seconds < 7200:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.1f}h"
