"""Stores that a test looks into or interferes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zeshel_tasks.store import Store
from zeshel_tasks.store.base import StoredObject


class WrappedStore:
    """Another store; subclasses change what they need to.

    Args:
        inner: does the work.
        before: called ahead of each operation with its name and key.
    """

    def __init__(self, inner: Store, before: Callable[[str, str], None] = lambda operation, key: None) -> None:
        self.inner, self.before = inner, before

    @property
    def address(self) -> str:
        return self.inner.address

    def get(self, key: str) -> bytes | None:
        self.before("get", key)
        return self.inner.get(key)

    def put(self, key: str, data: bytes) -> None:
        self.before("put", key)
        self.inner.put(key, data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.before("put_if_absent", key)
        return self.inner.put_if_absent(key, data)

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        self.before("get_version", key)
        return self.inner.get_version(key)

    def put_if_unchanged(self, key: str, data: bytes, version: str) -> bool:
        self.before("put_if_unchanged", key)
        return self.inner.put_if_unchanged(key, data, version)

    def upload(self, path: Path, key: str) -> None:
        self.before("upload", key)
        self.inner.upload(path, key)

    def local_copy(self, key: str, destination: Path) -> Path | None:
        self.before("local_copy", key)
        return self.inner.local_copy(key, destination)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        self.before("objects", prefix)
        return self.inner.objects(prefix)

    def keys(self, prefix: str) -> Iterator[str]:
        return (found.key for found in self.objects(prefix))

    def delete(self, key: str) -> None:
        self.before("delete", key)
        self.inner.delete(key)

    def delete_all(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.delete(key)

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        self.before("unfinished", prefix)
        return self.inner.unfinished(prefix)

    def discard(self, unfinished: StoredObject) -> None:
        self.before("discard", unfinished.key)
        self.inner.discard(unfinished)


class AgedStore(WrappedStore):
    """A store in which what was there at a call of :meth:`grow_old` is from long ago."""

    def __init__(self, inner: Store, before: Callable[[str, str], None] = lambda operation, key: None) -> None:
        super().__init__(inner, before)
        self._old: set[tuple[str, str]] = set()

    def grow_old(self) -> None:
        """Whatever is there now is old from now on, until it is written again."""
        for listed in (*self.inner.objects(""), *self.inner.unfinished("")):
            self._old.add((listed.key, listed.version))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return (self._aged(listed) for listed in super().objects(prefix))

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        return (self._aged(listed) for listed in super().unfinished(prefix))

    def _aged(self, listed: StoredObject) -> StoredObject:
        return listed._replace(modified=0.0) if (listed.key, listed.version) in self._old else listed
