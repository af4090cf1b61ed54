"""Logs as a container writes them: to standard output, each line led by its level, by which Airflow tells levels."""

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
    """Sends this process's log to standard output, without secrets; chatty libraries only warn.

    Characters that the output's encoding lacks are written as their escapes, here and by all who print.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_LevelFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its tables of weights that are missing or left over: models/bert.py looks at them, and says so in one line.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    sys.excepthook = _print_crash


def _print_crash(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """As Python prints what nobody caught: libraries put addresses into their exceptions."""
    print(redacted("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


class _LevelFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        lines = redacted(super().format(record)).splitlines() or [""]
        return "\n".join(f"{record.levelname}: {one_line(line)}" for line in lines)
