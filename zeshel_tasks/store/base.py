"""Interface of a store. Artifacts and runs use only these few operations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted

_MAX_NAME_BYTES = 255  # of a file system


class StoredObject(NamedTuple):
    """An object in a listing.

    Attributes:
        key: relative to the store's root.
        size: in bytes.
        modified: time of the last write, in seconds since 1970, by the store's own clock.
        version: differs if the content differs.
    """

    key: str
    size: int
    modified: float
    version: str


class Store(Protocol):
    """Named byte strings below one root. Keys are relative, with ``/`` between their parts (:func:`checked_key`).

    Every method raises :class:`~zeshel_tasks.errors.StoreUnavailable` if the store does not answer after all retries,
    and :class:`~zeshel_tasks.errors.ConfigError` if it refuses (credentials, bucket, permission).
    """

    @property
    def address(self) -> str:
        """Address of the root."""

    def get(self, key: str) -> bytes | None:
        """Returns the whole object, which should be small, or None if it does not exist."""

    def put(self, key: str, data: bytes) -> None:
        """Writes a small object. Readers see all of it or nothing."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes the object unless it exists. Returns False if another writer was first."""

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        """Returns the object and its version, for :meth:`put_if_unchanged`, or None if it does not exist."""

    def put_if_unchanged(self, key: str, data: bytes, version: str) -> bool:
        """Replaces the object if it still has this version. Returns False if another writer was first."""

    def upload(self, path: Path, key: str) -> None:
        """Stores a finished local file. The caller must not change the file afterwards."""

    def local_copy(self, key: str, destination: Path) -> Path | None:
        """Returns a local file with the object's bytes: ``destination``, or the object itself if it is a local file.

        Returns None if the object does not exist.
        """

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yields all objects whose keys start with ``prefix``, in any order: some buckets do not sort them."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yields all keys that start with ``prefix``, in any order."""

    def delete(self, key: str) -> None:
        """Deletes the object if it exists."""

    def delete_all(self, keys: Sequence[str]) -> None:
        """Deletes the objects that exist, in any order. After an error, some of them are deleted."""

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        """Yields unfinished uploads under ``prefix``, which take up space although they are not objects yet.

        ``modified`` is the time at which the upload began.
        """

    def discard(self, unfinished: StoredObject) -> None:
        """Deletes an unfinished upload if it still exists."""


def checked_key(key: str) -> str:
    """Returns the key if it is valid in every store.

    A valid key is relative and printable, has no empty, ``.`` or ``..`` parts, and is not too long.

    Raises:
        ConfigError: the key is not valid.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"store key: expected a relative path without empty, '.' or '..' parts, got {quoted(key)}")
    if not key.isprintable() or any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in parts):
        expected = f"a printable path with names of at most {_MAX_NAME_BYTES} bytes"
        raise ConfigError(f"store key: expected {expected}, got {quoted(key)}")
    return key


def checked_prefix(prefix: str) -> str:
    """Returns the prefix if valid keys can start with it. It may be empty and may end within a part.

    Raises:
        ConfigError: no valid key starts with it.
    """
    folder, slash, _ = prefix.rpartition("/")
    if slash:
        checked_key(folder)
    return prefix
