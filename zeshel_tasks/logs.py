"""Logs as a container writes them: to standard output, each line led by its level, by which Airflow tells levels."""

from __future__ import annotations

import logging
import sys

_NOISY = ("botocore", "boto3", "urllib3", "httpx", "httpcore", "transformers", "accelerate", "matplotlib", "fontTools")


def set_up_logs(level: int = logging.INFO) -> None:
    """Sends this process's log to standard output; chatty libraries only warn."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_LevelFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


class _LevelFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"{record.levelname}: {line}" for line in lines)
