"""A real HTTP server on a free local port that a test can make misbehave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

ETAG = '"v1"'


class Request(NamedTuple):
    method: str
    path: str
    headers: Message


class FileServer:
    """Serves one file at every path, with ETag, Range and If-Range, unless the next answer is scripted.

    Attributes:
        content: the file.
        etag: its ETag; empty to send none.
        headers: further headers of the normal answer.
        script: answers to the next GETs, in order; ``None`` means the normal answer.
        requests: all requests so far.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = ETAG
        self.headers: dict[str, str] = {}
        self.script: list[Callable[[BaseHTTPRequestHandler], None] | None] = []
        self.requests: list[Request] = []
        self.address = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(Request(handler.command, handler.path, handler.headers))
        scripted = self.script.pop(0) if self.script else None
        if scripted:
            scripted(handler)
        else:
            self.serve(handler)

    def serve(self, handler: BaseHTTPRequestHandler, cut_after: int | None = None) -> None:
        """Sends the normal answer; ``cut_after`` closes the connection after this number of bytes of the body."""
        wanted = handler.headers.get("Range")
        condition = handler.headers.get("If-Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and condition in (None, self.etag) else 0
        body = self.content[start:]
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/octet-stream"} | self.headers
        if self.etag:
            headers["ETag"] = self.etag
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        send(handler, 206 if start else 200, body[:cut_after], headers)


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
        handler.send_header(name, value)
    handler.send_header("Connection", "close")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns an answer with this status."""
    return lambda handler: send(
        handler, code, b"no", {name.replace("_", "-"): value for name, value in headers.items()}
    )


def page(html: str, code: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns an answer with an HTML page."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: send(handler, code, html.encode(), {"Content-Type": "text/html; charset=utf-8", **named})


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection without an answer."""
    handler.connection.shutdown(socket.SHUT_RDWR)


def garbage(handler: BaseHTTPRequestHandler) -> None:
    """Sends bytes that are not HTTP."""
    handler.wfile.write(bytes(range(256)))


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Closes the connection in the middle of the body."""
    send(handler, 200, b"{", {"Content-Length": "100"})


def text(content: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns an answer with this content."""
    return lambda handler: send(handler, 200, content.encode(), {"Content-Type": "application/json"})


def redirect(address: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Returns a redirect."""
    return lambda handler: send(handler, 302, b"", {"Location": address})


@contextmanager
def running(server: FileServer, host: str = "127.0.0.1") -> Iterator[FileServer]:
    """Runs the server at ``server.address``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        do_HEAD = do_CONNECT = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            """Keeps the tests' output readable."""

    http = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.address = f"http://{host}:{http.server_address[1]}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
