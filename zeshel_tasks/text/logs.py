"""Logging to stdout; each line starts with its level, which Airflow parses."""

from __future__ import annotations

import io
import logging
import sys
import traceback
from types import TracebackType

from zeshel_tasks.text.redaction import redacted
from zeshel_tasks.text.safe_text import one_line

_NOISY = ("botocore", "boto3", "urllib3", "httpx", "httpcore", "accelerate")


def set_up_logs(level: int = logging.INFO) -> None:
    """Log to stdout without secrets, and only warnings from chatty libraries.

    Characters that stdout cannot encode are escaped, also in what ``print`` writes.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_LevelFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # It prints tables of missing and unused weights. models/bert.py checks these and says so in one line.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    sys.excepthook = _print_crash


def _print_crash(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print an uncaught exception as Python does, but without secrets: libraries quote addresses."""
    print(redacted("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


class _LevelFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        lines = redacted(super().format(record)).splitlines() or [""]
        return "\n".join(f"{record.levelname}: {one_line(line)}" for line in lines)
