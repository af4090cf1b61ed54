"""SIGTERM as a flag: Kubernetes and Airflow send it before they kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the process was told to stop."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """A signal handler."""
        self.requested = True


@contextmanager
def on_sigterm() -> Iterator[Interrupt]:
    """While open, SIGTERM sets the flag instead of ending the process (in the main thread; else it is never set)."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGTERM, interrupt.request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
