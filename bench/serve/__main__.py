"""Measures the service under load, beside a plain one with the same models and beside ``zeshel link``.

    python -m bench.serve [--model DIRECTORY] [--data ARCHIVE] [--entities 100000] [--mode rerank ...]
                          [--clients 1 8 64] [--seconds 20] [--work DIRECTORY] [--soak MINUTES]

Without ``--model`` and ``--data``, it takes the sample worlds and the small BERT. Each request links one mention with
``--candidates``. Memory is resident, with mapped pages. ``offline`` is
``zeshel link`` with the same mentions, measured right after the most clients. ``CPU ms`` is the time of a core for a
mention, which tells more than the other times if the machine is busy. The clients are locust's.

``--soak`` measures nothing else: it serves for that time, or ``--soak_requests``, with changes of the knowledge base
and of the champion in between, and exits with 1 if a request fails or if memory grows by more than ``--allowed``
percent from the second quarter to the last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.facts import chosen_device, commit_facts, machine_facts
from bench.own_process import in_own_process
from bench.serve.drive import Load, check_installed, drive
from bench.serve.inputs import make_store, write_requests
from bench.serve.processes import Service, offline, our_service, plain_service
from bench.serve.soak import soak
from zeshel_tasks.config.link import LINK_MODES, LinkMode

_REQUESTS = 4096
_HEADINGS = ("server", "mode", "clients", "p50 ms", "p95 ms", "p99 ms", "mentions/s", "CPU ms", "non-2xx", "RSS MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit code."""
    options = _options(arguments)
    check_installed()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in pods; else threads that wait take the clients' time
    for line in (*machine_facts(chosen_device("cpu")), commit_facts(), _busy()):
        print(line, flush=True)
    with _folder(options.work) as work:
        settings = dict(item.split("=", 1) for item in options.set)
        in_own_process(make_store, work, options.data, options.model, options.entities, options.candidates, settings)
        if options.soak:
            return _soak(options, work)
        _print(_HEADINGS)
        for line in [_measure(options, work, mode) for mode in options.mode]:
            print(line)
    print(_busy())
    return 0


def _measure(options: argparse.Namespace, work: Path, mode: LinkMode) -> str:
    """Print the lines of a mode, and return what they say together."""
    store, requests = work / "store", _requests(work, options.entities, [mode])
    loads = dict[int, Load]()
    with our_service(store, options.candidates, "--mode", mode) as service:
        first = _first_milliseconds(service, requests)
        for clients in sorted(options.clients):
            loads[clients] = _load("zeshel", mode, clients, service, requests, options.seconds)
    fewest, most = min(loads), max(loads)
    count = min(_REQUESTS, max(most, round(loads[most].rate * options.seconds)))
    found = in_own_process(offline, store, options.candidates, mode, requests, count)
    _print(("offline", mode, "", "", "", "", f"{found.rate:,.1f}", f"{found.milliseconds:,.1f}", "", ""))
    with plain_service(store, options.candidates, mode) as service:
        for clients in sorted(options.clients):
            _load("plain", mode, clients, service, requests, options.seconds)
    return (
        f"{mode}: {loads[most].rate / found.rate:.0%} of the mentions a second of zeshel link with {most} clients; "
        f"the first request took {first / loads[fewest].milliseconds(50):.1f} times the median with {fewest}"
    )


def _load(server: str, mode: LinkMode, clients: int, service: Service, requests: Path, seconds: float) -> Load:
    busy, answers = service.busy_seconds, drive(service.address, requests, clients, seconds)
    busy, load = service.busy_seconds - busy, Load(answers)
    numbers = [*(load.milliseconds(percent) for percent in (50, 95, 99)), load.rate, 1000 * busy / len(answers)]
    others = str(load.failed), f"{service.resident_mb:,.0f}"
    _print((server, mode, str(clients), *(f"{number:,.1f}" for number in numbers), *others))
    return load


def _first_milliseconds(service: Service, requests: Path) -> float:
    with httpx.Client(base_url=service.address, timeout=600, trust_env=False) as client:
        client.get("/livez")  # connects
        started = time.perf_counter()
        client.post("/v1/link", json=json.loads(requests.read_text().splitlines()[-1])).raise_for_status()
        return 1000 * (time.perf_counter() - started)


def _soak(options: argparse.Namespace, work: Path) -> int:
    store, requests = work / "store", _requests(work, options.entities, options.mode)
    with our_service(store, options.candidates) as service:
        limits = options.soak, options.soak_requests, options.allowed
        return int(not soak(service, store, work / "cache", requests, *limits))


def _requests(work: Path, entities: int, modes: Sequence[LinkMode]) -> Path:
    path = work / f"{'-'.join(modes)}.jsonl"
    write_requests(path, entities, _REQUESTS, modes)
    return path


def _busy() -> str:
    return f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _print(cells: Sequence[str]) -> None:
    print("  ".join([f"{cells[0]:<8}", f"{cells[1]:<8}", *(f"{cell:>10}" for cell in cells[2:])]), flush=True)


@contextmanager
def _folder(work: Path | None) -> Iterator[Path]:
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work.absolute()
    else:
        with tempfile.TemporaryDirectory(prefix="serve-") as folder:
            yield Path(folder)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="directory of a pretrained BERT")
    parser.add_argument("--data", type=Path, help="archive or folder in ZESHEL's format, to train on")
    parser.add_argument("--entities", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--mode", nargs="+", choices=LINK_MODES, default=["retrieve", "rerank", "cascade"])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=float, default=20, help="time of each measurement; more if it is slow")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="serve for so long")
    parser.add_argument("--soak_requests", type=int, default=1_000_000, help="most requests of --soak")
    parser.add_argument("--allowed", type=float, default=10, help="allowed growth of memory in percent")
    parser.add_argument("--work", type=Path, help="directory that keeps the store; default: a temporary one")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the training")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
