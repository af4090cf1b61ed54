"""Checks the ``--out`` of commands before they work for hours."""

from __future__ import annotations

import sys
from pathlib import Path

from zeshel_tasks.errors import ConfigError

STREAM = "-"
"""Instead of a file's address: standard input or output."""


def with_folder(out: Path) -> Path:
    """Create the parent folder of ``out``.

    Raises:
        ConfigError: it cannot be created.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise ConfigError(f"--out: expected a writable path, got {out}: {error}") from error
    return out


def check_replaceable(out: Path) -> None:
    """Check that ``out`` is new or a regular file: a finished file would take the place of a device or a pipe.

    Raises:
        ConfigError: it is something else, such as ``/dev/null``.
    """
    if out.exists() and not out.is_file():
        kind = "the folder " if out.is_dir() else "a device or a pipe, "
        raise ConfigError(f"--out: expected a file to write, got {kind}{out}")


def check_open_output() -> None:
    """Check that standard output was open when this process started.

    Raises:
        ConfigError: it was closed.
    """
    if sys.__stdout__ is None:  # Python's value for one that is closed
        raise ConfigError("--out: expected an open standard output for -, got a closed one")
