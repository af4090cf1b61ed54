"""Clients of a service, each of which sends its next request once it has an answer. Prints a line for each answer.

    python -m bench.serve.load ADDRESS REQUESTS [--clients 1] [--seconds 10] [--least 3] [--most 1000000]

``REQUESTS`` is a file with the body of a request in each line. The clients share it and begin anew at its end. Each of
them stops after ``--seconds``, but not before ``--least`` requests. All together stop after ``--most`` requests.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

from locust import FastHttpUser, constant, task
from locust.env import Environment
from locust.exception import StopUser

_PATIENCE = 600.0  # seconds
_HEADERS = {"Content-Type": "application/json"}


class Client(FastHttpUser):
    """A client.

    Attributes:
        bodies: of the requests of all clients.
        numbers: of the clients.
        until: when to stop, on the clock of ``time.perf_counter``.
        least: requests before a client stops.
    """

    wait_time = constant(0)
    network_timeout = connection_timeout = _PATIENCE
    bodies: Iterator[str]
    numbers = itertools.count()
    until: float
    least: int

    def on_start(self) -> None:
        """Take a number."""
        self.number, self.sent = next(self.numbers), 0

    @task
    def link(self) -> None:
        """Send a request and print its client, its begin and end in seconds, and its status, 0 without an answer."""
        body = next(self.bodies, None)
        if body is None or (self.sent >= self.least and time.perf_counter() >= self.until):
            raise StopUser
        started = time.perf_counter()
        status = self.client.post("/v1/link", data=body, headers=_HEADERS).status_code
        print(json.dumps([self.number, started, time.perf_counter(), status]), flush=True)
        self.sent += 1


def main() -> None:
    """Send the requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("requests", type=Path)
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--least", type=int, default=3)
    parser.add_argument("--most", type=int, default=1_000_000)
    options = parser.parse_args()
    Client.bodies = itertools.islice(itertools.cycle(options.requests.read_text().splitlines()), options.most)
    Client.until, Client.least = time.perf_counter() + options.seconds, options.least
    runner = Environment(user_classes=[Client], host=options.address).create_local_runner()
    runner.start(options.clients, spawn_rate=options.clients, wait=True)
    assert runner.spawning_greenlet is not None
    runner.spawning_greenlet.join()  # it waits for the clients
    runner.quit()


if __name__ == "__main__":
    main()
