"""A store in this process's memory, for tests that do not depend on a disk or a network."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zeshel_tasks.store.base import StoredObject, checked_key, checked_prefix


class _Object(NamedTuple):
    data: bytes
    modified: float
    number: int


class MemoryStore:
    """Objects are byte strings in a dictionary. Every operation is atomic."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._lock = threading.RLock()
        self._writes = 0

    @property
    def address(self) -> str:
        return f"memory:{id(self)}"

    def get(self, key: str) -> bytes | None:
        found = self._objects.get(checked_key(key))
        return None if found is None else found.data

    def put(self, key: str, data: bytes) -> None:
        with self._lock:
            self._writes += 1
            self._objects[checked_key(key)] = _Object(bytes(data), time.time(), self._writes)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._lock:
            if self.get(key) is not None:
                return False
            self.put(key, data)
            return True

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        data = self.get(key)
        return None if data is None else (data, hashlib.sha256(data).hexdigest())

    def put_if_unchanged(self, key: str, data: bytes, version: str) -> bool:
        with self._lock:
            found = self.get_version(key)
            if found is None or found[1] != version:
                return False
            self.put(key, data)
            return True

    def upload(self, path: Path, key: str) -> None:
        self.put(key, path.read_bytes())

    def local_copy(self, key: str, destination: Path) -> Path | None:
        data = self.get(key)
        if data is None:
            return None
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(data)
        return destination

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        checked_prefix(prefix)
        with self._lock:
            found = sorted((key, value) for key, value in self._objects.items() if key.startswith(prefix))
        return (StoredObject(key, len(data), modified, str(number)) for key, (data, modified, number) in found)

    def keys(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.objects(prefix))

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(checked_key(key), None)

    def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        """Yields nothing: a write is finished at once."""
        checked_prefix(prefix)
        return iter(())

    def discard(self, unfinished: StoredObject) -> None:
        self.delete(unfinished.key)
