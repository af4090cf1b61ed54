"""Temporary folders and files that outlive a killed process only until another one makes such in the same place."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import uuid
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
    with tempfile.TemporaryDirectory(prefix=prefix, suffix=_SUFFIX, dir=place) as name, _locked(Path(name)):
        yield Path(name)


@contextmanager
def temporary_file(final: Path) -> Iterator[Path]:
    """A new file beside ``final``, which the caller may replace with it. Removes those of killed processes.

    A process locks its file, as it does a folder.
    """
    _remove_abandoned(final.parent, f"{final.name}.")
    path = final.with_name(f"{final.name}.{uuid.uuid4().hex}{_SUFFIX}")
    path.touch()
    try:
        with _locked(path):
            yield path
    finally:
        path.unlink(missing_ok=True)


def _remove_abandoned(place: Path, prefix: str) -> None:
    try:
        found = list(place.iterdir())
    except OSError:  # a folder for all users need not let them read it
        return
    for path in (path for path in found if path.name.startswith(prefix) and path.suffix == _SUFFIX):
        if _is_old(path) and (lock := _lock(path)) is not None:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            os.close(lock)


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > _UNLOCKED_SECONDS
    except OSError:  # it has just been removed
        return False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = _lock(path)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path) -> int | None:
    """Locks a file or folder. Returns None if another process has, or the file system refuses or knows no locks."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would wait for its other end
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
