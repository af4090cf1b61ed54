"""A store in a local (or shared, POSIX) directory."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zeshel_tasks.errors import ConfigError, StoreUnavailable
from zeshel_tasks.store.base import StoredObject, checked_key, checked_prefix

_UNFINISHED = ".unfinished-"
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class LocalStore:
    """Stores objects as files. A file gets its name only after it is completely written to the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()

    @property
    def address(self) -> str:
        return str(self._root)

    def get(self, key: str) -> bytes | None:
        with _translated(self._path(key)):
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return None

    def put(self, key: str, data: bytes) -> None:
        with _translated(self._path(key)), self._unfinished(key) as part:
            _write_through(part, data)
            part.replace(self._path(key))
            _sync(part.parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with _translated(self._path(key)), self._unfinished(key) as part:
            _write_through(part, data)
            try:
                # Creating a hard link is atomic and never replaces an existing name, even on NFS.
                os.link(part, self._path(key))
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                raise ConfigError(f"{self._root}: expected a file system with hard links, got: {error}") from error
            _sync(part.parent)
            return True

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        data = self.get(key)
        return None if data is None else (data, hashlib.sha256(data).hexdigest())

    def put_if_unchanged(self, key: str, data: bytes, version: str) -> bool:
        path = self._path(key)
        with _translated(path), _locked(path.parent):
            found = self.get_version(key)
            if found is None or found[1] != version:
                return False
            self.put(key, data)
            return True

    def upload(self, path: Path, key: str) -> None:
        with _translated(self._path(key)), self._unfinished(key) as part:
            try:
                os.link(path.resolve(), part)  # costs nothing on the same file system
            except OSError:
                shutil.copyfile(path, part)
            _sync(part)
            part.replace(self._path(key))
            _sync(part.parent)

    def local_copy(self, key: str, destination: Path) -> Path | None:  # noqa: ARG002  (the object is local already)
        path = self._path(key)
        with _translated(path):
            return path if path.is_file() else None

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return self._listed(prefix, lambda path: not path.name.startswith(_UNFINISHED))

    def keys(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.objects(prefix))

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(path):
            path.unlink(missing_ok=True)  # keep an empty folder, because another process may be about to write there

    def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        return self._listed(prefix, lambda path: path.name.startswith(_UNFINISHED))

    def discard(self, unfinished: StoredObject) -> None:
        self.delete(unfinished.key)

    def _listed(self, prefix: str, wanted: Callable[[Path], bool]) -> Iterator[StoredObject]:
        folder = self._root / checked_prefix(prefix).rpartition("/")[0]
        with _translated(folder):
            files = (
                Path(place, name) for place, _, names in os.walk(folder, onerror=_pass_over_missing) for name in names
            )
            found = sorted((path.relative_to(self._root).as_posix(), path) for path in files if wanted(path))
            return iter([listed for key, path in found if key.startswith(prefix) and (listed := _listed_as(key, path))])

    def _path(self, key: str) -> Path:
        return self._root / checked_key(key)

    @contextmanager
    def _unfinished(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        part = path.with_name(f"{_UNFINISHED}{uuid.uuid4().hex}")
        _make(path.parent)
        try:
            yield part
        finally:
            part.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # such as in /proc
        raise ConfigError(f"{folder}: expected a directory that can be created, got: {error}") from error


def _listed_as(key: str, path: Path) -> StoredObject | None:
    try:
        status = path.stat()
    except FileNotFoundError:  # deleted during the listing
        return None
    # ctime, because an uploaded file may be a hard link that keeps its own mtime.
    return StoredObject(key, status.st_size, status.st_ctime, f"{status.st_ino}-{status.st_ctime_ns}")


def _pass_over_missing(error: OSError) -> None:
    """Ignores folders that other processes delete during a listing. Raises any other error."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Flushes a file's bytes or a folder's names to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds an exclusive lock on a folder. The system releases it if the holder dies."""
    _make(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: expected a directory for the store, got: {error}") from error
    except OSError as error:
        if error.errno in _REFUSED:
            raise ConfigError(f"{path}: expected a directory that this process may write, got: {error}") from error
        full = "the store's disk is full: " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StoreUnavailable(f"{path}: {full}{error}") from error
