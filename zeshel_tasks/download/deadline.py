"""Wall-clock limit of a download; closes its sockets on expiry."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self

from zeshel_tasks.errors import StoreUnavailable


class Deadline:
    """Limits a download: ``with Deadline(...) as deadline``.

    A timeout alone does not limit it, because a server that sends one byte a minute never exceeds the timeout. On
    expiry, connections are cut in any state: during a handshake, in headers or in a body.

    Args:
        seconds: starting now.
        setting: the setting to name in the error.
    """

    def __init__(self, seconds: float, setting: str) -> None:
        self._seconds, self._setting = seconds, setting
        self._end = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut_all)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def check(self) -> None:
        """Raise StoreUnavailable after the deadline."""
        if time.monotonic() >= self._end:
            raise StoreUnavailable(f"the download took longer than {self._seconds / 60:g} minutes ({self._setting})")

    def cut(self, connection: socket.socket) -> None:
        """Cut this connection on expiry. The caller still has to close it."""
        with self._lock:
            # Keep a duplicate, because TLS detaches the file descriptor from the socket.
            self._connections.append(connection.dup())

    def _cut_all(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the server closed it first
                    connection.shutdown(socket.SHUT_RDWR)
