"""Temporary folders that outlive a killed process only until another process makes one in the same place."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".scratch"
_UNLOCKED_SECONDS = 60  # a younger folder may belong to a process that is about to lock it


@contextmanager
def temporary_folder(prefix: str, parent: Path | None) -> Iterator[Path]:
    """A new folder, by default in the system's folder for such. Removes those of killed processes.

    A process locks its folder. The system releases the lock when the process ends, however it ends.
    """
    place = parent or Path(tempfile.gettempdir())
    _remove_abandoned(place, prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=_SUFFIX, dir=place) as name:
        lock = _lock(Path(name))
        try:
            yield Path(name)
        finally:
            if lock is not None:
                os.close(lock)


def _remove_abandoned(place: Path, prefix: str) -> None:
    try:
        found = list(place.iterdir())
    except OSError:  # a folder for all users need not let them read it
        return
    for folder in (path for path in found if path.name.startswith(prefix) and path.suffix == _SUFFIX):
        if _is_old(folder) and (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _is_old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS
    except OSError:  # it has just been removed
        return False


def _lock(folder: Path) -> int | None:
    """Locks a folder. Returns None if another process has, may not be asked, or the file system knows no locks."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
