"""Ends this process within seconds of SIGTERM, with the exit code for another attempt, and removes its scratch files.

SIGTERM raises an exception in the main thread, and its unwinding removes scratch files. Such an exception can arise at
any instruction, so it can be lost: Python ignores one that leaves the callback of a weak reference, and a library in C
can replace one that arises while it is imported. And the handler may not run at all: Python runs it only after a call
into a C library has returned, such as the lookup of a host, and boto3 waits for its threads, which wait for a silent
server. So a second thread sees the signal, too, and repeats it until the main thread unwinds. If the unwinding does not
come to its end, that thread removes the scratch files and ends the process.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from zeshel_tasks.compute.temporary import temporary_folder
from zeshel_tasks.errors import EXIT_OK, EXIT_TRY_AGAIN

log = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""Time for the unwinding. Kubernetes kills a pod 30 seconds after SIGTERM by default."""

REPETITIONS = 10
"""How often the signal is repeated during this time."""

_scratch: set[Path] = set()
_told = threading.Event()


class ToldToStop(BaseException):
    """SIGTERM. Not an Exception, so that no handler on the way up catches it."""


def until_sigterm(command: Callable[[], int]) -> int:
    """Return the exit code of a command, or the one for another attempt if SIGTERM ends it."""
    _told.clear()
    try:
        with stoppable():
            code = command()
    except BaseException as error:
        if not _told.is_set():
            raise
        signal.signal(signal.SIGTERM, _too_late)
        if not isinstance(error, ToldToStop):  # perhaps what a library made of it
            log.info("after SIGTERM", exc_info=True)
        code = EXIT_TRY_AGAIN
    if not _told.is_set() or code == EXIT_OK:
        return code
    _log_stop()
    return EXIT_TRY_AGAIN  # also instead of an error that a lost exception has caused


def stop(_number: int, _frame: FrameType | None) -> None:
    """A signal handler that unwinds the stack of the main thread, unless it is being unwound."""
    _told.set()
    if not _is_unwinding():
        raise ToldToStop


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside the context, SIGTERM raises :class:`ToldToStop`, and ends the process if that takes too long.

    A training replaces the handler in order to save a checkpoint first, and takes the time that this needs. After the
    context, SIGTERM has no effect: the process is about to end.
    """
    signal.signal(signal.SIGTERM, stop)
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    before = signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
    ended = threading.Event()
    threading.Thread(target=_watch, args=(receiver, ended), daemon=True).start()
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _too_late)
        ended.set()
        signal.set_wakeup_fd(before)
        os.close(sender)


@contextmanager
def scratch_folder(prefix: str = "zeshel-", parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder, by default in the system's folder for such. SIGTERM removes it in any case."""
    with temporary_folder(prefix, parent) as folder, removed_on_sigterm(folder):
        yield folder


@contextmanager
def removed_on_sigterm(path: Path) -> Iterator[Path]:
    """Inside the context, a file or a folder is removed even if SIGTERM ends the process without unwinding."""
    _scratch.add(path)
    try:
        yield path
    finally:
        _scratch.discard(path)


def end_now(code: int) -> NoReturn:
    """End the process with an exit code and without unwinding, although threads compute. Removes scratch files."""
    for path in tuple(_scratch):
        for _ in range(3):  # another thread may still create files in it
            shutil.rmtree(path, ignore_errors=True)
        if path.is_file():
            path.unlink(missing_ok=True)
    os._exit(code)


def _is_unwinding() -> bool:
    """Return True in a handler or a cleanup that the exception has led to, where another one would do harm."""
    error = sys.exception()
    while error is not None and not isinstance(error, ToldToStop):
        error = error.__context__
    return error is not None


def _too_late(_number: int, _frame: FrameType | None) -> None:
    """A signal handler that does nothing. Unlike SIG_IGN, child processes do not inherit it."""


def _watch(receiver: int, ended: threading.Event) -> None:
    """Wait for the number of each signal that the process receives."""
    with open(receiver, "rb", buffering=0) as signals:
        while received := signals.read(1):
            if received[0] == signal.SIGTERM and _is_ours():
                _see_to_the_end(ended)


def _is_ours() -> bool:
    return signal.getsignal(signal.SIGTERM) is stop


def _see_to_the_end(ended: threading.Event) -> None:
    main = threading.main_thread().ident
    assert main is not None
    for _ in range(REPETITIONS):
        if ended.wait(GRACE_SECONDS / REPETITIONS):
            return
        signal.pthread_kill(main, signal.SIGTERM)
    if _is_ours():
        _log_stop()
        end_now(EXIT_TRY_AGAIN)


def _log_stop() -> None:
    log.error("stopped by SIGTERM before the end; the next attempt reuses the committed results")
