"""The moment at which a download has taken too long, however little of it comes at a time."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self

from zeshel_tasks.errors import StoreUnavailable


class Deadline:
    """Ends what is done within it, ``with Deadline(...) as deadline``.

    A timeout alone is no bound: a server that sends a byte a minute never exceeds it. So connections are cut when
    the time is over, wherever they are: in a handshake, in headers, in a body.

    Args:
        seconds: from now on.
        setting: names the setting, for the message.
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
        """Raises: StoreUnavailable once the time is over."""
        if time.monotonic() >= self._end:
            raise StoreUnavailable(f"the download took longer than {self._seconds / 60:g} minutes ({self._setting})")

    def cut(self, connection: socket.socket) -> None:
        """Has this connection cut when the time is over; it is still the caller's to close."""
        with self._lock:
            # A file descriptor of our own: TLS takes the socket's away from it.
            self._connections.append(connection.dup())

    def _cut_all(self) -> None:
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)
