"""What the starters of servers share: their keys, free ports, and waiting until a server answers."""

from __future__ import annotations

import socket
import time
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

ACCESS_KEY, SECRET_KEY = "test:tester", "testing"  # with the colon that Swift requires
SECONDS_TO_START = 120


def free_ports(number: int) -> list[int]:
    """Returns ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [int(free.getsockname()[1]) for free in sockets]
    for free in sockets:
        free.close()
    return ports


def wait_for(address: str) -> None:
    """Waits until a server answers, whatever it says."""
    deadline = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            urlopen(address).close()
            return
        except HTTPError:
            return
        except URLError:
            assert time.monotonic() < deadline, f"{address} does not answer"
            time.sleep(0.2)
