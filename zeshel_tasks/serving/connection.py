"""Connections: their number and their time are bounded, and an answer to broken HTTP is a problem, too.

uvicorn waits without end for a request on a new connection, for the rest of a request's head, for the rest of a body
that nobody reads any more, and for a client that does not read its answer. Its answer to broken HTTP is plain text.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zeshel_tasks.serving.guard import HEADERS
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.problems import response_of
from zeshel_tasks.serving.settings import ServeConfig


class Connection(H11Protocol):
    """A connection to a client. Its application is one of :func:`~zeshel_tasks.serving.app.create_app`."""

    _too_slow: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    @property
    def is_idle(self) -> bool:
        """True if no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Waits for a request, and makes room for this connection if there are too many."""
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._wait_for_a_request()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        for timer in (self._too_slow, self._unread, self.timeout_keep_alive_task):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Begins the next request, or goes on waiting for it: a client that sends a byte now and then gains no time."""
        super().data_received(data)
        self._wait_for_a_request()

    def on_response_complete(self) -> None:
        """Waits for the next request, or for the client to read the last answer."""
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            self._wait_for_a_reader()

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection, also if its client has not read the last answer."""
        super().timeout_keep_alive_handler()
        self.transport.abort()

    def pause_writing(self) -> None:
        """Waits for the client to read what was sent."""
        super().pause_writing()
        self._wait_for_a_reader()

    def resume_writing(self) -> None:
        """The client has read almost everything."""
        super().resume_writing()
        if self._unread is not None and not self.transport.is_closing():
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Answers broken HTTP, unless an answer was sent before."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._metrics.requests.labels("other", "other", "400").inc()
            answer = response_of(400, msg, headers=HEADERS | {"Connection": "close"})
            start = h11.Response(status_code=400, headers=answer.raw_headers, reason=b"Bad Request")
            for event in (start, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._wait_for_a_reader()

    @property
    def _settings(self) -> ServeConfig:
        return cast(ServeConfig, self.config.app.state.settings)  # type: ignore[union-attr]

    @property
    def _metrics(self) -> Metrics:
        return cast(Metrics, self.config.app.state.service.metrics)  # type: ignore[union-attr]

    def _wait_for_a_request(self) -> None:
        if self._too_slow is None and self.is_idle:
            self._too_slow = self.loop.call_later(self._settings.head_seconds, self.transport.abort)
        elif self._too_slow is not None and not self.is_idle:
            self._too_slow.cancel()
            self._too_slow = None

    def _wait_for_a_reader(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self._settings.send_seconds, self.transport.abort)

    def _make_room(self) -> None:
        """Closes the connection that has been without a request for the longest."""
        if len(self.connections) <= self._settings.max_connections:
            return
        there = [found for found in cast(set[Connection], self.connections) if not found.transport.is_closing()]
        if len(there) > self._settings.max_connections:
            idle = [found for found in there if found.is_idle]  # at least this one
            min(idle, key=lambda found: found._idle_since).transport.abort()
