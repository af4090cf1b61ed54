"""The process of the service: its socket, its threads, its signals and its end."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.serving.app import Service, create_app
from zeshel_tasks.serving.batcher import Batcher
from zeshel_tasks.serving.connection import Connection
from zeshel_tasks.serving.edits import Editor
from zeshel_tasks.serving.follower import StoreFollower
from zeshel_tasks.serving.in_turn import Leaving
from zeshel_tasks.serving.linking import LinkService
from zeshel_tasks.serving.metrics import Metrics
from zeshel_tasks.serving.settings import ServeConfig
from zeshel_tasks.serving.turns import Turns
from zeshel_tasks.store import Store

log = logging.getLogger(__name__)

_BACKLOG = 1024
_SECONDS_OF_THREADS = 2
"""How much of the time to drain is for threads to end, after the requests have."""
_MOMENT = 0.1  # seconds that an idle thread needs


class Server(uvicorn.Server):
    """A server that ends without an error after SIGTERM or SIGINT, or if nothing can be served.

    Args:
        service: what it serves.
    """

    def __init__(self, service: Service) -> None:
        self._follower = service.follower
        super().__init__(
            uvicorn.Config(
                create_app(service),
                loop="asyncio",
                http=Connection,
                ws="none",
                log_config=None,
                log_level="error",  # a client could fill the log with warnings
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=service.settings.idle_seconds,
                timeout_graceful_shutdown=service.settings.drain_seconds - _seconds_of_threads(service.settings),
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Like uvicorn's, but does not repeat the signal at the end: a drained server has done what it was told."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def on_tick(self, counter: int) -> bool:
        """Ends the server if a knowledge base cannot be served at all."""
        return await super().on_tick(counter) or self._follower.error is not None


@contextmanager
def new_service(
    store: Store,
    names: Sequence[str],
    settings: ServeConfig,
    link_settings: Mapping[str, Any],
    admin_token: str | None,
    cache: Path,
) -> Iterator[Service]:
    """Makes everything that answers requests, and ends its threads at the end.

    Args:
        store: the store of the champion and the knowledge bases.
        names: of the knowledge bases.
        settings: of the service.
        link_settings: of :class:`~zeshel_tasks.config.link.LinkConfig`, those that differ from the usual ones.
        admin_token: lets requests change entities.
        cache: local directory for fetched models and knowledge bases.

    Raises:
        ZeshelError: there is nothing to serve, unless the settings say to wait for it.
    """
    metrics = Metrics()
    batcher = Batcher(settings.batch_mentions, settings.batch_wait_ms / 1000, settings.max_waiting_mentions, metrics)
    frees, leaving = list[Callable[[], None]](), None
    if settings.switch == "in-turn":
        leaving = Leaving(Turns(store), settings.leave_seconds, frees)
    follower = StoreFollower(
        store,
        names,
        link_settings,
        cache,
        batcher,
        metrics,
        settings.poll_seconds,
        waits=settings.wait,
        leaving=leaving,
    )
    links, editor = LinkService(batcher, metrics), Editor(store, follower, metrics)
    frees.append(editor.forget)
    service = Service(settings, admin_token, metrics, follower, links, editor)
    try:
        if not settings.wait:
            follower.check()
        yield service
    finally:
        deadline = time.monotonic() + _seconds_of_threads(settings)
        busy = [
            what
            for what, part in (("a change", editor), ("the store", follower), ("the models", batcher))
            if not part.close(max(_MOMENT, deadline - time.monotonic()))
        ]
        links.close()
        if busy:
            log.warning("the time to drain is over; still busy with %s", " and ".join(busy))
        else:
            service.drained.set()
            log.info("drained")


def run(service: Service) -> None:
    """Serves until SIGTERM or SIGINT, and then until the requests in progress are answered.

    Raises:
        ConfigError: the address is taken or is not one of this machine.
        ZeshelError: a knowledge base cannot be served at all.
    """
    settings = service.settings
    with listening(settings.host, settings.port) as listener:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        log.info("listening at http://%s:%d", host, listener.getsockname()[1])
        Server(service).run([listener])
    if service.follower.error is not None:
        raise service.follower.error


def _seconds_of_threads(settings: ServeConfig) -> int:
    return min(_SECONDS_OF_THREADS, settings.drain_seconds)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listens at an address. ``::`` accepts IPv4, too, where the machine has both.

    Raises:
        ConfigError: the address is taken or is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        expected = "--host and --port: expected a free address of this machine"
        raise ConfigError(f"{expected}, got {host}:{port}: {error}") from error
    # Accepted connections inherit it. asyncio sets it only where a socket names its protocol, which this one does not.
    # Without it, the body of an answer waits 40 ms for the client to acknowledge the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with listener:
        yield listener
