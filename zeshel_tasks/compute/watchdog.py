"""Ends a process that makes no progress, so that a hanging GPU, network or process does not hold a machine forever."""

from __future__ import annotations

import faulthandler
import logging
import os
import threading
import time
from types import TracebackType

from zeshel_tasks.errors import EXIT_TRY_AGAIN

# Not `sys.stderr`, which a program may replace by an object without a file, and only a file gets the stacks.
_STANDARD_ERROR = 2

log = logging.getLogger(__name__)


class Watchdog:
    """Ends the process with exit code 75 if :meth:`beat` is not called in time.

    Python cannot interrupt a call that hangs in a driver, so the process ends at once. It writes the stacks of all
    threads to standard error and leaves its scratch files.

    Args:
        minutes: the limit (``stall_minutes``).
    """

    def __init__(self, minutes: float) -> None:
        self._minutes = minutes
        self._last = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self.beat()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join()

    def beat(self) -> None:
        """Reports progress."""
        self._last = time.monotonic()

    def _watch(self) -> None:
        while not self._closed.wait(max(0.0, self._last + 60 * self._minutes - time.monotonic())):
            if time.monotonic() - self._last >= 60 * self._minutes:
                self._end()

    def _end(self) -> None:
        try:
            faulthandler.dump_traceback(_STANDARD_ERROR)
            log.error(
                "no progress for %g minutes (stall_minutes): a GPU, the network or another process of this training "
                "hangs, or a single step takes longer; the next attempt resumes from the last checkpoint",
                self._minutes,
            )
            logging.shutdown()
        finally:  # if an error ended only this thread, the process would hang forever
            os._exit(EXIT_TRY_AGAIN)
