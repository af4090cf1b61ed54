"""A lock in the store that allows only one cleanup at a time."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from zeshel_tasks.errors import TryAgain
from zeshel_tasks.store.base import Store

log = logging.getLogger(__name__)

LOCK = "cleanup.lock"
DEAD_AFTER_MINUTES = 60
"""A holder that was not seen for this long is dead: all of its requests would have failed before."""
_SEEN_EVERY_SECONDS = 300


class Lock:
    """The held lock of a store."""

    def __init__(self, store: Store, content: bytes) -> None:
        self._store, self._content, self._seen = store, content, time.monotonic()

    def check(self) -> None:
        """Checks that the lock is still held.

        Raises:
            TryAgain: another cleanup has taken over.
        """
        if self._store.get(LOCK) != self._content:
            raise TryAgain(f"{self._store.address}/{LOCK}: another cleanup has taken over")

    def hold(self) -> None:
        """Renews the lock every few minutes. Call it often.

        Raises:
            TryAgain: another cleanup has taken over.
        """
        if time.monotonic() - self._seen > _SEEN_EVERY_SECONDS:
            self.check()
            self._store.put(LOCK, self._content)
            self._seen = time.monotonic()

    def release(self) -> None:
        """Releases the lock, unless another cleanup has taken over."""
        if self._store.get(LOCK) == self._content:
            self._store.delete(LOCK)


@contextmanager
def locked(store: Store) -> Iterator[Lock]:
    """Holds the store's lock.

    Raises:
        TryAgain: another cleanup holds the lock and was seen recently.
    """
    lock = Lock(store, content := f"{uuid.uuid4().hex} {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}\n".encode())
    if not store.put_if_absent(LOCK, content):
        held = next((found for found in store.objects(LOCK) if found.key == LOCK), None)
        minutes = 0.0 if held is None else (time.time() - held.modified) / 60
        if minutes < DEAD_AFTER_MINUTES:
            raise TryAgain(
                f"{store.address}/{LOCK}: another cleanup is running, last seen {minutes:.0f} minutes ago; "
                "if you are sure that it is dead, delete this object"
            )
        log.warning("taking over from a cleanup that was last seen %.0f minutes ago", minutes)
        store.put(LOCK, content)
    try:
        yield lock
    finally:
        lock.release()
