"""Runs moto in a thread of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.s3.server import s3_server


def missing_programs() -> list[str]:
    """Returns nothing: moto is installed with the tests."""
    return []


@contextmanager
def running(_: Path) -> Iterator[str]:
    """Runs a server in memory and yields its address. It accepts any keys."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = s3_server("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
