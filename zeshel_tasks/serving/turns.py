"""At most one of the replicas that serve from a store has its turn: it may be away for a while.

The replica whose turn it is writes an object of the store again and again. If the object stays as it is for a while,
that replica is dead. Each replica measures this while by its own clock, so clocks need not agree.
"""

from __future__ import annotations

import logging
import threading
import time
from math import inf
from uuid import uuid4

from zeshel_tasks.errors import ZeshelError
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

KEY = "serving/turn"
_FREE = b"free\n"


class Turns:
    """The turns of one replica.

    Args:
        store: all replicas share it.
        renew_seconds: between two signs of life.
        dead_seconds: without a sign of life, after which another replica takes over.
    """

    def __init__(self, store: Store, renew_seconds: float = 5.0, dead_seconds: float = 30.0) -> None:
        self._store, self._renew_seconds, self._dead_seconds = store, renew_seconds, dead_seconds
        self._seen, self._seen_at = "", 0.0
        self._thread: threading.Thread | None = None
        self._ending, self._ends_at = threading.Event(), inf

    @property
    def is_mine(self) -> bool:
        """True from :meth:`take` until the turn has ended, or until another replica has taken over."""
        return self._thread is not None and self._thread.is_alive()

    def take(self) -> bool:
        """Takes the turn, unless another replica has it or that of this one is about to end. Returns True if it has it.

        Raises:
            ZeshelError: the store does not answer, or refuses.
        """
        if self.is_mine:
            return self._ends_at == inf
        holder, found = uuid4().hex, self._store.get_version(KEY)
        if found is None:
            taken = self._store.put_if_absent(KEY, _sign(holder))
        else:
            taken = self._may_follow(*found) and self._store.put_if_unchanged(KEY, _sign(holder), found[1])
        if taken:
            self._ending, self._ends_at = threading.Event(), inf
            self._thread = threading.Thread(target=self._keep, args=(holder,), name="turn", daemon=True)
            self._thread.start()
        return taken

    def end(self, after_seconds: float = 0.0) -> None:
        """Ends the turn a while later, without waiting for that."""
        self._ends_at = min(self._ends_at, time.monotonic() + after_seconds)
        self._ending.set()

    def close(self, seconds: float) -> None:
        """Ends the turn, and waits at most so long."""
        self._ends_at = 0.0
        self._ending.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _may_follow(self, content: bytes, version: str) -> bool:
        if content == _FREE:
            return True
        if version != self._seen:
            self._seen, self._seen_at = version, time.monotonic()
        is_dead = time.monotonic() - self._seen_at > self._dead_seconds
        if is_dead:
            log.warning("another replica had its turn and has not been heard of for %.0f s", self._dead_seconds)
        return is_dead

    def _keep(self, holder: str) -> None:
        while (left := self._ends_at - time.monotonic()) > 0:
            if self._ending.wait(min(left, self._renew_seconds)):
                self._ending.clear()
            elif not self._replaced(holder, _sign(holder)):
                log.warning("another replica has taken over the turn")
                return
        self._replaced(holder, _FREE)

    def _replaced(self, holder: str, content: bytes) -> bool:
        """Replaces the last sign of life. Returns False if another replica has the turn."""
        try:
            found = self._store.get_version(KEY)
            if found is None or not found[0].startswith(holder.encode()):
                return False
            return self._store.put_if_unchanged(KEY, content, found[1])
        except ZeshelError as error:  # others cannot take over at this moment
            log.warning("the sign of life of this replica was not written: %s", error)
            return True


def _sign(holder: str) -> bytes:
    return f"{holder} {uuid4().hex}\n".encode()
