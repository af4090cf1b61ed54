"""A running service, in a thread of the test's process, behind a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from zeshel_tasks.recipe import build_settings
from zeshel_tasks.serving.app import Service
from zeshel_tasks.serving.server import Server, listening, new_service
from zeshel_tasks.serving.settings import ServeConfig
from zeshel_tasks.store import Store

TOKEN = "a-token-for-the-tests"
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
SECONDS = 60.0
USUAL = {"poll_seconds": 0.05, "batch_wait_ms": 1}


@dataclass(frozen=True)
class Running:
    """A running service.

    Attributes:
        client: of HTTP.
        service: what it runs.
        server: runs it.
    """

    client: httpx.Client
    service: Service
    server: Server

    def link(self, kb: str, *documents: dict[str, Any], **fields: Any) -> httpx.Response:
        return self.client.post("/v1/link", json={"kb": kb, "documents": documents, **fields})

    def links(self, kb: str, *documents: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
        """Returns the links of all documents."""
        answer = self.link(kb, *documents, **fields)
        assert answer.status_code == 200, answer.text
        return [link for document in answer.json()["documents"] for link in document["links"]]

    def wait(self, until: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not until():
            assert time.monotonic() < deadline, f"expected {what} within {SECONDS:g} s"
            time.sleep(0.02)

    def is_ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200


@contextmanager
def running(
    store: Store, names: Sequence[str], folder: Path, settings: dict[str, Any] | None = None, *, wait: bool = True
) -> Iterator[Running]:
    config = build_settings(ServeConfig, USUAL | (settings or {}))
    with (
        new_service(store, names, config, {}, TOKEN, folder) as service,
        listening("127.0.0.1", 0) as listener,
    ):
        server = Server(service)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client:
            found = Running(client, service, server)
            try:
                if wait:
                    found.wait(found.is_ready, "a service that is ready")
                yield found
            finally:
                server.should_exit = True
                thread.join()


def document(text: str, *mentions: str, **fields: Any) -> dict[str, Any]:
    """A document whose mentions are the first ones of these words."""
    places = [(text.index(mention), text.index(mention) + len(mention)) for mention in mentions]
    return {"text": text, "mentions": [{"start": start, "end": end} for start, end in places], **fields}
