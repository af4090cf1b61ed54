"""What a store can do; artifacts and runs are built on these few operations alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.text.safe_text import quoted

_MAX_NAME_BYTES = 255  # of a file system


class StoredObject(NamedTuple):
    """An object as a listing tells of it.

    Attributes:
        key: relative to the store's root.
        size: in bytes.
        modified: when it was put there, in seconds since 1970; by the store's own clock.
        version: differs where the content differs.
    """

    key: str
    size: int
    modified: float
    version: str


class Store(Protocol):
    """Named byte strings below one root. Keys are relative, with ``/`` between their parts (:func:`checked_key`).

    Every method raises :class:`~zeshel_tasks.errors.StoreUnavailable` when the store does not answer after
    all retries, and :class:`~zeshel_tasks.errors.ConfigError` when it refuses (credentials, bucket, permission).
    """

    @property
    def address(self) -> str:
        """The root as the user gave it."""

    def get(self, key: str) -> bytes | None:
        """The whole object (meant for small ones), or None where there is none."""

    def put(self, key: str, data: bytes) -> None:
        """Writes a small object; readers see all of it or nothing."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes the object unless one is there; False means that another writer was first."""

    def get_version(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version, for :meth:`put_if_unchanged`; None where there is none."""

    def put_if_unchanged(self, key: str, data: bytes, version: str) -> bool:
        """Replaces the object if it still is that version; False means that another writer was first."""

    def upload(self, path: Path, key: str) -> None:
        """Stores a finished local file; the caller does not change the file afterwards."""

    def local_copy(self, key: str, destination: Path) -> Path | None:
        """A local file with the object's bytes: ``destination``, or the object itself where it is local already.

        None where there is no such object.
        """

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """All objects whose keys start with ``prefix``, in lexical order."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that start with ``prefix``, in lexical order."""

    def delete(self, key: str) -> None:
        """Removes the object if it is there."""

    def unfinished(self, prefix: str) -> Iterator[StoredObject]:
        """What began to be written under ``prefix`` and has not become an object: it takes room all the same.

        ``modified`` is when it was begun.
        """

    def discard(self, unfinished: StoredObject) -> None:
        """Removes something unfinished, if it is there."""


def checked_key(key: str) -> str:
    """The key, if every store can have it: not absolute, without empty, ``.`` or ``..`` parts, printable, not too long.

    Raises:
        ConfigError: it is another one.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ConfigError(f"store key: expected a relative path without empty, '.' or '..' parts, got {quoted(key)}")
    if not key.isprintable() or any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in parts):
        expected = f"a printable path with names of at most {_MAX_NAME_BYTES} bytes"
        raise ConfigError(f"store key: expected {expected}, got {quoted(key)}")
    return key


def checked_prefix(prefix: str) -> str:
    """The beginning of keys, if there can be such keys; it may be empty and may end anywhere in a part.

    Raises:
        ConfigError: no key begins so.
    """
    folder, slash, _ = prefix.rpartition("/")
    if slash:
        checked_key(folder)
    return prefix
