"""Turns SIGTERM into a flag. Kubernetes and Airflow send SIGTERM before they kill a process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Holds a flag that a signal handler sets."""

    def __init__(self) -> None:
        self.requested = False

    def request(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """A signal handler."""
        self.requested = True


@contextmanager
def on_sigterm() -> Iterator[Interrupt]:
    """Inside the context, SIGTERM sets the flag instead of ending the process. Works in the main thread only."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGTERM, interrupt.request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
