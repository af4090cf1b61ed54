"""The processes that are compared: the service, the plain one, and ``zeshel link``."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil

from bench.serve.inputs import KB
from zeshel_tasks.commands.link_setup import Linking
from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.link_files.counts import LinkedCounts

TOKEN = "a-token-for-the-bench"
_START_SECONDS = 600
_WARM_UP = 8  # lines


@dataclass(frozen=True)
class Service:
    """A service that is ready.

    Attributes:
        address: of HTTP.
        process: of the operating system.
    """

    address: str
    process: psutil.Process

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB (10^6 bytes), with mapped pages."""
        return float(self.process.memory_info().rss / 1e6)

    @property
    def busy_seconds(self) -> float:
        """Time of a core since the start."""
        return float(sum(self.process.cpu_times()[:2]))


class Offline(NamedTuple):
    """What ``zeshel link`` does in a second, and with the time of a core.

    Attributes:
        rate: mentions in a second.
        milliseconds: of a core, for a mention.
    """

    rate: float
    milliseconds: float


@contextmanager
def our_service(store: Path, candidates: int, *more: str) -> Iterator[Service]:
    """Run ``zeshel serve``."""
    port = _free_port()
    flags = ["--store", str(store), "--kb", KB, "--port", str(port), "--candidates", str(candidates), *more]
    with _started(["-m", "zeshel_tasks", "serve", *flags], port) as service:
        yield service


@contextmanager
def plain_service(store: Path, candidates: int, mode: LinkMode) -> Iterator[Service]:
    """Run ``bench/serve/plain.py``."""
    port = _free_port()
    with _started(["-m", "bench.serve.plain", str(store), mode, str(candidates), str(port)], port) as service:
        yield service


def offline(store: Path, candidates: int, mode: LinkMode, requests: Path, count: int) -> Offline:
    """Measure ``zeshel link``, reading and writing included."""
    lines = [json.dumps(json.loads(line)["documents"][0]) for line in requests.read_text().splitlines()[:count]]
    with tempfile.TemporaryDirectory() as cache:
        linking = Linking(str(store), None, KB, {"mode": mode, "candidates": candidates}, Path(cache))
        _link(linking, lines[:_WARM_UP])
        started, busy = time.perf_counter(), time.process_time()
        _link(linking, lines)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        return Offline(len(lines) / seconds, 1000 * busy / len(lines))


def _link(linking: Linking, lines: Sequence[str]) -> None:
    stream = BytesIO("\n".join(lines).encode())
    assert len(list(linking.lines(stream, "requests", LinkedCounts()))) == len(lines)


@contextmanager
def _started(command: Sequence[str], port: int) -> Iterator[Service]:
    """Start a process of Python that serves, wait until it is ready, and end it at the end."""
    with tempfile.TemporaryFile() as log:
        environment = os.environ | {"ZESHEL_ADMIN_TOKEN": TOKEN}
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, env=environment)
        try:
            service = Service(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
            deadline = time.monotonic() + _START_SECONDS
            with httpx.Client(base_url=service.address, trust_env=False) as client:
                while not _is_ready(client):
                    if process.poll() is not None or time.monotonic() > deadline:
                        log.seek(0)
                        sys.exit(f"{' '.join(command)}: expected a service that is ready, got\n{log.read().decode()}")
                    time.sleep(0.1)
            yield service
        finally:
            process.terminate()
            process.wait()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
