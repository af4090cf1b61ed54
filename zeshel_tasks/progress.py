"""One progress line every so many seconds: ``step 120/1925  6.2%  loss 0.413  1,840 mentions/s  eta 14m``."""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


class Progress:
    """Counts work and says how far it is.

    Args:
        what: first word of the line.
        total: how many there are.
        unit: what the rate counts, in the plural.
        interval: seconds between lines.
    """

    def __init__(self, what: str, total: int, unit: str, interval: float, *, done: int = 0) -> None:
        self._what, self._total, self._unit, self._interval = what, total, unit, interval
        self._done, self._items = done, 0
        self._started = self._last = time.monotonic()

    def update(self, done: int = 1, *, items: int | None = None, note: str = "") -> None:
        """Counts ``done`` more of the total, made of ``items`` units (as many as ``done`` where not given)."""
        self._done += done
        self._items += done if items is None else items
        now = time.monotonic()
        if now - self._last >= self._interval:
            self._last = now
            log.info("%s", self._line(now, done, note))

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self._items / max(time.monotonic() - self._started, 1e-9)

    def _line(self, now: float, done: int, note: str) -> str:
        elapsed = now - self._started
        finished_here = max(self._items / elapsed, 1e-9)
        units_a_step = self._items / max(self._done, done, 1)
        left = (self._total - self._done) * units_a_step / finished_here
        share = f"{self._done / max(self._total, 1):.1%}"
        parts = [f"{self._what} {self._done:,}/{self._total:,}", share, note, f"{self.rate:,.0f} {self._unit}/s"]
        return "  ".join([*filter(None, parts), f"eta {_duration(left)}"])


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f}s"
    if seconds < 5400:
        return f"{seconds / 60:.0f}m"
    return f"{seconds / 3600:.1f}h"
