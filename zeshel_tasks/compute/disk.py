"""Turns a full disk, and a file to which the system refuses access, into errors for the user."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from zeshel_tasks.errors import ConfigError, TryAgain, ZeshelError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL = tuple(os.strerror(number) for number in DISK_FULL)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def full_disk_named() -> Iterator[None]:
    """Turns a full disk into an error for the user. A retry can help, because others may use the same disk.

    Raises:
        TryAgain: there was no room for a file.
    """
    try:
        yield
    except ZeshelError:
        raise
    except Exception as error:  # safetensors raises its own type with the system's message
        if not any(words in str(error) for words in _FULL):
            raise
        with full_output_named():
            sys.stdout.flush()  # what could not be written fails again
        where = os.environ.get("ZESHEL_SCRATCH") or tempfile.gettempdir()
        raise TryAgain(
            f"the disk is full ({error}): scratch files are in {where}; set ZESHEL_SCRATCH to a directory with more "
            "room, in a pod the chart's stages.scratchSize"
        ) from error


@contextmanager
def full_output_named() -> Iterator[None]:
    """Turns a full disk behind standard output into an error for the user.

    Raises:
        TryAgain: there was no room for the output.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        # In other words than the system's, which full_disk_named() would take for a full disk of scratch files.
        raise TryAgain("standard output: expected room for what is written there, got a disk that is full") from error


@contextmanager
def refused_access_named() -> Iterator[None]:
    """Turns refused access to a file or directory into an error for the user, who chose its path.

    Raises:
        ConfigError: this process may not read or write a file, or its file system is read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED or error.filename is None:
            raise
        expected = "expected a path that this process may read or write"
        raise ConfigError(f"{error.filename}: {expected}, got: {error}") from error
