"""Progress of moving bytes, as log lines: a pod's log has no use for a bar that redraws itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class ByteProgress:
    """Logs a line like ``download 120 MB of 300 MB  40%  12 MB/s  eta 15s`` now and then.

    Args:
        verb: what is being done.
        total: bytes in all, if known.
        interval: seconds between lines.
        clock: seconds, as ``time.monotonic`` counts them.
    """

    def __init__(
        self, verb: str, total: int | None, interval: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = total
        self._verb, self._interval, self._clock = verb, interval, clock
        self._started = self._logged = clock()

    def update(self, done: int) -> None:
        """``done`` bytes of ``total`` so far."""
        now = self._clock()
        if now - self._logged >= self._interval:
            self._logged = now
            log.info("%s", self._line(done, done / (now - self._started)))

    def _line(self, done: int, rate: float) -> str:
        pace = f"{rate / 1e6:,.1f} MB/s"
        if not self.total:
            return f"{self._verb} {done / 1e6:,.0f} MB  {pace}"
        share = f"{done / self.total:.0%}"
        eta = f"  eta {_duration((self.total - done) / rate)}" if rate > 0 else ""
        return f"{self._verb} {done / 1e6:,.0f} MB of {self.total / 1e6:,.0f} MB  {share}  {pace}{eta}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f}s" if seconds < 120 else f"{seconds / 60:.0f}m"
