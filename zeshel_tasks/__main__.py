"""Starts the command line ``zeshel``.

SIGTERM must not be lost during the second of the imports: Linux ignores it for the first process of a container until
there is a handler. Nor may it change the exit code while Python ends, which resets all handlers.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from zeshel_tasks.errors import EXIT_TRY_AGAIN


def main() -> int:
    """Run one subcommand and return its exit code."""
    signal.signal(signal.SIGTERM, _end)
    _keep_numbers_of_streams()
    from zeshel_tasks.cli import main

    try:
        return main()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _keep_numbers_of_streams() -> None:
    """After ``zeshel ... >&-``, one of our files would get the number 1, and a library in C would print into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _end(_number: int, _frame: FrameType | None) -> None:
    """End at once, since nothing has been done yet."""
    os._exit(EXIT_TRY_AGAIN)


if __name__ == "__main__":
    sys.exit(main())
