"""Turns a full disk into an error that names the setting to change."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from zeshel_tasks.errors import TryAgain, ZeshelError

_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


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
        where = os.environ.get("ZESHEL_SCRATCH") or tempfile.gettempdir()
        raise TryAgain(
            f"the disk is full ({error}): scratch files are in {where}; set ZESHEL_SCRATCH to a directory with more "
            "room, in a pod the chart's stages.scratchSize"
        ) from error
