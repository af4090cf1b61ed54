"""Serves for long, with changes of the knowledge base and of the champion in between, and watches the memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from bench.entities import random_entities
from bench.serve.drive import drive
from bench.serve.inputs import KB, another_champion
from bench.serve.processes import TOKEN, Service
from zeshel_tasks.champion.champions import read_champions
from zeshel_tasks.store import LocalStore

CLIENTS = 8
_EDIT_SECONDS, _SWAP_SECONDS, _SAMPLE_SECONDS = 10.0, 60.0, 1.0
_STEPS = 20  # lines of the table


class Soak:
    """Disturbs a service, and notes its memory.

    Args:
        service: the service.
        store: what it serves.
        cache: local folder.
    """

    def __init__(self, service: Service, store: Path, cache: Path) -> None:
        self._service, self._store, self._cache = service, LocalStore(store), cache
        self._ended = threading.Event()
        self.samples, self.edits, self.swaps, self.refused = list[tuple[float, float]](), 0, 0, 0

    @contextmanager
    def disturbing(self) -> Iterator[None]:
        """Disturb until the context is left."""
        threads = [threading.Thread(target=act) for act in (self._edit, self._swap, self._sample)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ended.set()
            for thread in threads:
                thread.join()

    def _edit(self) -> None:
        """Add an entity, and remove it again."""
        address, number = f"{self._service.address}/v1/kbs/{KB}/entities", 10**8
        (entity,) = random_entities(range(number, number + 1), 60)
        added = {"entities": [{"id": entity.document_id, "title": entity.title, "text": entity.text}]}
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=600, trust_env=False) as client:
            while not self._ended.wait(_EDIT_SECONDS):
                method, body = (("PUT", added), ("DELETE", {"ids": [entity.document_id]}))[self.edits % 2]
                self.refused += client.request(method, address, json=body).status_code != 200
                self.edits += 1

    def _swap(self) -> None:
        """Promote two champions in turn."""
        first = read_champions(self._store).champion
        assert first is not None
        champions = (another_champion(self._store, self._cache), first)
        while not self._ended.wait(_SWAP_SECONDS):
            assert read_champions(self._store).promote(champions[self.swaps % 2])
            self.swaps += 1

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.samples.append((time.perf_counter(), self._service.resident_mb))


def soak(service: Service, store: Path, cache: Path, requests: Path, minutes: float, most: int, allowed: float) -> bool:
    """Print the memory over time. Return False if it grew, or if a request failed."""
    watched, begin = Soak(service, store, cache), time.perf_counter()
    with watched.disturbing():
        answers = drive(service.address, requests, CLIENTS, 60 * minutes, most)
    times, resident = np.array(watched.samples).T
    ends, failed = np.array([answer.end for answer in answers]), sum(answer.status != 200 for answer in answers)
    print(f"\n{'minute':>8} {'requests':>10} {'RSS MB':>8}")
    for some in np.array_split(np.arange(len(times)), min(_STEPS, len(times))):
        at = times[some[-1]]
        print(f"{(at - begin) / 60:>8.1f} {(ends <= at).sum():>10,} {resident[some].max():>8,.0f}")
    later = len(times) // 4
    slope, growth = np.polyfit(times[later:] / 3600, resident[later:], 1)[0], growth_percent(resident)
    print(f"{len(answers):,} requests, {failed} failed; {watched.edits} edits, {watched.refused} refused; ", end="")
    print(f"{watched.swaps} champions; {slope:+,.0f} MB an hour after the first quarter")
    print(f"peak of the last quarter against that of the second: {growth:+.1f}%")
    return not failed and not watched.refused and growth <= allowed


def growth_percent(resident: npt.NDArray[np.float64]) -> float:
    """Return by how much the peak of the last quarter exceeds that of the second one."""
    quarter = max(1, len(resident) // 4)
    before = resident[quarter : 2 * quarter] if len(resident) > 1 else resident
    return float(100 * (resident[-quarter:].max() / before.max() - 1))
