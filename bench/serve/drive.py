"""Drives a service with the clients of ``bench/serve/load.py``, and what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        client: number of the client.
        begin, end: of the request, in seconds on one clock.
        status: of HTTP; 0 without an answer.
    """

    client: int
    begin: float
    end: float
    status: int


class Load:
    """What clients measured.

    Args:
        answers: of all clients, each of which has at least two.

    Attributes:
        failed: number of answers without a status of 2xx.
        seconds: times of the requests without the first one of each client, all of which begin at once.
        rate: requests in a second.
    """

    def __init__(self, answers: Sequence[Answer]) -> None:
        of_clients: dict[int, list[Answer]] = {}
        for answer in answers:
            of_clients.setdefault(answer.client, []).append(answer)
        later = (answer for of_client in of_clients.values() for answer in of_client[1:])
        self.failed = sum(not 200 <= answer.status < 300 for answer in answers)
        self.seconds = np.sort([answer.end - answer.begin for answer in later])
        first, last = min(answer.begin for answer in answers), max(answer.end for answer in answers)
        self.rate = len(answers) / (last - first)

    def milliseconds(self, percent: float) -> float:
        """Return a percentile of the times."""
        return float(np.percentile(self.seconds, percent)) * 1000


def check_installed() -> None:
    """Exit with a message unless the load generator is installed."""
    if find_spec("locust") is None:
        sys.exit("bench.serve: expected the load generator locust, got none: pip install -c constraints.txt locust")


def drive(address: str, requests: Path, clients: int, seconds: float, most: int = 1_000_000) -> list[Answer]:
    """Send requests from a process of its own, and return the answers in the order of their ends."""
    options = ["--clients", str(clients), "--seconds", str(seconds), "--most", str(most)]
    command = [sys.executable, "-m", "bench.serve.load", address, str(requests), *options]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [Answer(*json.loads(line)) for line in done.stdout.splitlines()]
