"""Ends this process within seconds of SIGTERM, with the exit code for another attempt, and removes its scratch files.

SIGTERM raises an exception in the main thread, and its unwinding removes scratch files. Two kinds of waiting delay it:
Python runs a signal's handler only after a call into a C library has returned, such as the lookup of a host, and boto3
waits for its threads, which wait for a silent server. So a second thread sees the signal, too. If the unwinding does
not come to its end, that thread removes the scratch files and ends the process.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from zeshel_tasks.errors import EXIT_TRY_AGAIN

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""Time for the unwinding. Kubernetes kills a pod 30 seconds after SIGTERM by default."""

_scratch: set[Path] = set()


class ToldToStop(BaseException):
    """SIGTERM. Not an Exception, so that no handler on the way up catches it."""


def stop(number: int, _frame: FrameType | None) -> None:
    """A signal handler that unwinds the stack of the main thread."""
    signal.signal(number, signal.SIG_IGN)  # a second SIGTERM would interrupt the cleanup
    raise ToldToStop


def log_stop() -> None:
    """Log that the process ends because of SIGTERM."""
    log.error("stopped by SIGTERM before the end; the next attempt reuses the committed results")


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside the context, SIGTERM raises :class:`ToldToStop`, and ends the process if that takes too long.

    A training replaces the handler in order to save a checkpoint first, and takes the time that this needs.
    """
    signal.signal(signal.SIGTERM, stop)
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    ended = threading.Event()
    threading.Thread(target=_end_late, args=(receiver, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(sender)


@contextmanager
def scratch_folder(prefix: str = "zeshel-", parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder, by default in the system's folder for such. SIGTERM removes it in any case."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as name, removed_on_sigterm(Path(name)) as folder:
        yield folder


@contextmanager
def removed_on_sigterm(path: Path) -> Iterator[Path]:
    """Inside the context, a file or a folder is removed even if SIGTERM ends the process without unwinding."""
    _scratch.add(path)
    try:
        yield path
    finally:
        _scratch.discard(path)


def _end_late(receiver: int, ended: threading.Event) -> None:
    """Waits for the number of each signal that the process receives."""
    with open(receiver, "rb", buffering=0) as signals:
        while received := signals.read(1):
            is_ours = signal.getsignal(signal.SIGTERM) in (stop, signal.SIG_IGN)
            if received[0] == signal.SIGTERM and is_ours and not ended.wait(GRACE_SECONDS):
                _end_now()


def _end_now() -> None:
    log_stop()
    for path in tuple(_scratch):
        for _ in range(3):  # another thread may still create files in it
            shutil.rmtree(path, ignore_errors=True)
        if path.is_file():
            path.unlink(missing_ok=True)
    os._exit(EXIT_TRY_AGAIN)
