"""Logging to stdout; each line starts with its level, which Airflow parses."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import TextIO

from zeshel_tasks.text.redaction import redacted
from zeshel_tasks.text.safe_text import one_line

_NOISY = ("botocore", "boto3", "urllib3", "httpx", "httpcore", "accelerate")
_PROGRESS = "zeshel_tasks.compute.progress"


def set_up_logs(level: int = logging.INFO) -> None:
    """Log to stdout without secrets, and only warnings from chatty libraries. If stdout is closed, log to stderr.

    Characters that stdout cannot encode are escaped, also in what ``print`` writes.
    """
    output = sys.stdout or sys.stderr  # Python has None for one that is closed
    sys.stdout, sys.stderr = (stream or Path(os.devnull).open("w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = _Handler(output)
    handler.setFormatter(_LevelFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints tables of missing and unused weights. models/bert.py checks these and says so in one line.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    sys.excepthook = _print_crash


def name_process(name: str, *, progress: bool) -> None:
    """Begins each line with the name of this process, after the level.

    Args:
        name: one of several that write one log.
        progress: False leaves out the lines of progress, which another process logs.
    """
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _LevelFormatter):
            handler.formatter.process = f"[{name}] "
    logging.getLogger(_PROGRESS).setLevel(logging.NOTSET if progress else logging.WARNING)


def log_to_stderr() -> None:
    """Log to stderr from now on, because stdout gets data."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Handler):
            handler.setStream(sys.stderr)


def flush_output() -> None:
    """Write out what was printed, unless nobody reads it any more."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()


def output_has_reader() -> bool:
    """False if stdout is a pipe whose other end is closed."""
    pipe = select.poll()
    pipe.register(sys.stdout, select.POLLOUT)
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))


def discard_output() -> None:
    """Let stdout lead nowhere, so that what it still holds raises no error when Python ends."""
    with contextlib.suppress(OSError):  # a stream without a number, as in tests
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_crash(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print an uncaught exception as Python does, but without secrets: libraries quote addresses."""
    print(redacted("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Let the work go on if nobody reads its log any more. Another error of stdout is a line on stderr."""
        error = sys.exception()
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        if isinstance(error, BrokenPipeError):
            discard_output()
            return
        with contextlib.suppress(OSError):  # both may lead to the same full disk
            print(self.format(record), file=sys.stderr, flush=True)


class _LevelFormatter(logging.Formatter):
    process = ""

    def format(self, record: logging.LogRecord) -> str:
        lines = redacted(super().format(record)).splitlines() or [""]
        return "\n".join(f"{record.levelname}: {self.process}{one_line(line)}" for line in lines)
