"""An S3 server for tests, all in memory.

python -m tests.cluster.s3.server [--host 0.0.0.0] [--port 5000] [--bucket NAME ...] [--authority DIR --address IP ...]
"""

import argparse
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.test import Client

from tests.cluster.s3.authority import server_context

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class OneAtATime:
    """Serializes requests, because moto does not check If-None-Match and write atomically as a real server does."""

    def __init__(self, application: Application) -> None:
        self._application, self._turn = application, threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._turn:
            return list(self._application(environ, start_response))


class KeepsConnections(WSGIRequestHandler):
    """Allows a client to reuse its connection."""

    protocol_version = "HTTP/1.1"


def s3_server(host: str, port: int, buckets: Iterable[str] = (), tls: ssl.SSLContext | None = None) -> BaseWSGIServer:
    """Returns a server with ``buckets``, by HTTPS with a TLS context. Port 0 means any free port.

    Raises:
        ValueError: a bucket cannot be created, for instance because its name is not allowed.
    """
    application = OneAtATime(DomainDispatcherApplication(create_backend_app))
    for bucket in buckets:
        answer = Client(application).put(f"/{bucket}", base_url="http://localhost")
        if answer.status_code != 200:
            raise ValueError(f"bucket {bucket!r} was refused with status {answer.status_code}: {answer.text}")
    return make_server(host, port, application, threaded=True, request_handler=KeepsConnections, ssl_context=tls)


def main() -> None:
    """Serves until the process ends."""
    parser = argparse.ArgumentParser(description="An S3 server for tests, all in memory.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--bucket", action="append", default=[], help="made at the start; may be given again")
    parser.add_argument("--authority", type=Path, help="folder of the authority that signs the server's certificate")
    parser.add_argument("--address", action="append", default=[], help="in the certificate; may be given again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        signed = arguments.authority and server_context(arguments.authority, arguments.address, Path(folder))
        server = s3_server(arguments.host, arguments.port, arguments.bucket, signed)
        scheme = "https" if signed else "http"
        print(f"serving S3 at {scheme}://{arguments.host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
