"""A proxy between the S3 client and moto that can refuse, drop headers, lose answers and hang up."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

_OF_ONE_CONNECTION = ("connection", "transfer-encoding", "content-length", "expect", "date", "server")


class Request(NamedTuple):
    """A request of the client. ``headers`` have lower-case names and may be changed before the request is forwarded."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Answer(NamedTuple):
    """The answer to the client.

    Attributes:
        cut: True to announce more bytes than are sent.
        reset_after: number of bytes of the body after which the connection is reset; -1 resets it before the status.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    cut: bool = False
    reset_after: int | None = None


HangUp = Callable[[str, str], bool]
"""By method and path, whether the connection is reset in the middle of the request's body."""


Forward = Callable[[Request], Answer]


def refusal(status: int, code: str) -> Answer:
    """Returns an error in the format of S3."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said by the test</Message></Error>"
    return Answer(status, {"Content-Type": "application/xml"}, text.encode())


@contextmanager
def s3_proxy(
    behind: str, answer: Callable[[Request, Forward], Answer], hangs_up: HangUp = lambda method, path: False
) -> Iterator[str]:
    """Runs a proxy before the server ``behind`` and yields its address. ``answer`` answers each request."""

    def forward(request: Request) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(behind).netloc, timeout=30)
        headers = {name: value for name, value in request.headers.items() if name not in ("connection", "expect")}
        connection.request(request.method, request.path, request.body, headers)
        got = connection.getresponse()
        body = got.read()
        kept = {name: value for name, value in got.getheaders() if name.lower() not in _OF_ONE_CONNECTION}
        if request.method == "HEAD":
            kept["Content-Length"] = got.getheader("Content-Length", "0")
        connection.close()
        return Answer(got.status, kept, body)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if hangs_up(self.command, self.path):
                self.rfile.read(length // 2)
                self.reset()
                return
            body = self.rfile.read(length)
            if len(body) < length:  # the client disconnected, and the server behind would wait for the rest
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.send(answer(Request(self.command, self.path, headers, body), forward))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

        def send(self, got: Answer) -> None:
            if got.reset_after == -1:
                self.reset()
                return
            self.send_response(got.status)
            length = str(len(got.body) + (1000 if got.cut else 0))
            for name, value in ({"Content-Length": length} | got.headers).items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(got.body[: got.reset_after])
            if got.reset_after is not None:
                self.reset()
            self.close_connection = True

        def reset(self) -> None:
            """Sends RST, by closing a socket with a linger time of zero."""
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            """Keeps the tests' output readable."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
