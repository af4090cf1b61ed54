"""Connections are bounded in number and time, and every client gets an answer in the terms of HTTP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.serving.conftest import WORLD
from tests.serving.running import ADMIN, SECONDS, Running, document
from tests.support.faults import Fault

HEAD = b"Host: a\r\nContent-Type: application/json\r\n"
HURRIED = {"head_seconds": 0.3, "send_seconds": 0.3, "body_seconds": 0.3}


@pytest.fixture
def limit(served: Running, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes settings of the service for connections that are made later."""

    def change(**settings: float) -> None:
        hurried = served.service.settings.model_copy(update=settings)
        monkeypatch.setattr(served.server.config.app.state, "settings", hurried)  # type: ignore[union-attr]

    return change


@contextmanager
def connected(served: Running) -> Iterator[socket.socket]:
    address = (str(served.client.base_url.host), int(served.client.base_url.port or 0))
    with socket.create_connection(address, timeout=SECONDS) as connection:
        yield connection


def everything(connection: socket.socket) -> bytes:
    """What the service sends until it closes the connection."""
    got = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(2**16):
            got += part
    return got


def asked(served: Running, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Returns status, headers and body of the answer to a request that closes the connection."""
    with connected(served) as connection:
        connection.sendall(request)
        head, _, body = everything(connection).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /livez HTT",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nGET /livez HTT",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n",
        b"POST /nowhere HTTP/1.1\r\n" + HEAD + b"Content-Length: 99\r\n\r\n",
        b"POST /v1/link HTTP/1.1\r\n" + HEAD + b"Content-Length: 99\r\n\r\n",
    ],
    ids=["nothing", "a line", "a head", "a second head", "a body for GET", "a body for nobody", "a body"],
)
def test_client_that_sends_a_byte_now_and_then_is_cut_off(
    served: Running, fault: Fault, limit: Callable[..., None], sent: bytes
) -> None:
    fault("service: slow client")
    limit(**HURRIED)
    with connected(served) as connection:
        connection.sendall(sent)
        deadline = time.monotonic() + SECONDS
        try:
            while time.monotonic() < deadline:
                connection.sendall(b"a")
                time.sleep(0.05)
        except ConnectionError:
            return
    raise AssertionError("the connection is still open")


def test_slow_body_is_given_up_with_an_answer(served: Running, fault: Fault, limit: Callable[..., None]) -> None:
    fault("service: slow client")
    limit(body_seconds=0.2)
    status, headers, _ = asked(served, b"POST /v1/link HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\n{")
    assert (status, headers["content-type"]) == (408, "application/problem+json")


def test_client_that_does_not_read_its_answers_is_cut_off(
    served: Running, fault: Fault, limit: Callable[..., None]
) -> None:
    fault("service: slow client")
    limit(send_seconds=0.3)
    before = len(served.server.server_state.connections)
    with connected(served) as connection:
        connection.settimeout(0.5)
        with suppress(ConnectionError, TimeoutError):
            while True:
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * 100)
        served.wait(lambda: len(served.server.server_state.connections) <= before, "no such connection")


def test_idle_connection_makes_room_for_a_new_one(served: Running, fault: Fault, limit: Callable[..., None]) -> None:
    fault("service: too many connections")
    assert served.is_ready()  # on a connection that stays open, and is idle for the shortest time
    limit(max_connections=4)
    oldest = socket.create_connection((served.client.base_url.host, served.client.base_url.port or 0), SECONDS)
    with oldest:
        assert served.is_ready()
        for _ in range(8):
            with connected(served) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
                assert served.is_ready()
                served.wait(lambda: len(served.server.server_state.connections) <= 4, "few connections")
        crowd = [socket.create_connection(oldest.getpeername(), SECONDS) for _ in range(6)]
        assert everything(oldest) == b""
        assert asked(served, b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")[0] == 200
        for connection in crowd:
            connection.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET /livez\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2**17,
        b"POST /v1/link HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n",
        b"POST /v1/link HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/link HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST /v1/link HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyzzy\r\n",
    ],
    ids=lambda sent: repr(sent[:60]),
)
def test_broken_http_is_a_problem(served: Running, fault: Fault, caplog: pytest.LogCaptureFixture, sent: bytes) -> None:
    fault("service: wrong request")
    status, headers, body = asked(served, sent)
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(body)["status"] == 400
    assert "default-src 'none'" in headers["content-security-policy"]
    assert caplog.text == ""


def test_broken_http_after_an_answer_ends_the_connection_silently(
    served: Running, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    fault("service: wrong request")
    with connected(served) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 404")
        connection.sendall(b"xyzzy\r\n")
        assert b"HTTP/1.1" not in everything(connection)
    assert caplog.text == ""


@pytest.mark.parametrize("path", ["/", "/page.js", "/livez", "/v1/kbs", "/openapi.json", "/metrics", "/nowhere"])
def test_head_is_get_without_a_body(served: Running, path: str) -> None:
    got, head = served.client.get(path), served.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert {name for name, _ in head.headers.items()} == {name for name, _ in got.headers.items()}
    assert head.headers["content-type"] == got.headers["content-type"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        (f"/v1/kbs/{WORLD}/entities", "DELETE, OPTIONS, PUT"),
        ("/v1/link", "OPTIONS, POST"),
        ("/v1/kbs", "GET, HEAD, OPTIONS"),
        ("*", "DELETE, GET, HEAD, OPTIONS, POST, PUT"),
    ],
)
def test_options_and_other_methods_name_those_that_are_allowed(served: Running, path: str, methods: str) -> None:
    for method, expected in (("OPTIONS", 204), ("BREW", 405)):
        status, headers, body = asked(
            served, f"{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
        )
        assert (status, headers["allow"]) == (expected, methods.lower())
        assert "access-control-allow-origin" not in headers
        assert (body == b"") == (method == "OPTIONS")


@pytest.mark.parametrize("origin", ["http://host", "HTTPS://user@host:8000", "http://"])
@pytest.mark.parametrize(("path", "expected"), [("/v1/kbs?a=b", 200), ("", 200), ("/%2e%2e/livez", 404)])
def test_address_may_be_absolute(served: Running, origin: str, path: str, expected: int) -> None:
    status, _, _ = asked(served, f"GET {origin}{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert status == expected


@pytest.mark.parametrize("coding", ["gzip", "identity, br", "GZIP", "x"])
def test_encoded_body_is_refused(served: Running, fault: Fault, coding: str) -> None:
    fault("service: wrong request")
    for method, path in (("POST", "/v1/link"), ("PUT", f"/v1/kbs/{WORLD}/entities")):
        headers = ADMIN | {"Content-Type": "application/json", "Content-Encoding": coding}
        answer = served.client.request(method, path, content=b"{}", headers=headers)
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    body = {"kb": WORLD, "documents": [document("a sword", "sword")]}
    assert served.client.post("/v1/link", json=body, headers={"Content-Encoding": "identity"}).status_code == 200
