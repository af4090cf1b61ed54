"""Replicas that cannot hold the models of two champions load new ones one after the other."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.serving.conftest import WORLD
from tests.serving.running import SECONDS, Running, document, running
from tests.serving.test_command import free_port, start, wait_until_ready
from tests.serving.test_following import ROBOT, candidates, promote, served_run
from tests.support.faults import Fault
from tests.support.finished import copy_of
from tests.support.fork_server import fork_server
from zeshel_tasks.knowledge_base.changes import add
from zeshel_tasks.linking.loaded_models import LoadedModels
from zeshel_tasks.serving.served import ServedModels
from zeshel_tasks.serving.turns import Turns
from zeshel_tasks.store import Run, Store

REPLICAS = 3
IN_TURN = {"switch": "in-turn", "leave_seconds": 0}


@pytest.fixture
def store(run: Run, tmp_path: Path) -> Store:
    return copy_of(run, tmp_path).store


@pytest.fixture
def in_turn(store: Store, tmp_path: Path) -> Iterator[Running]:
    with running(store, [WORLD], tmp_path / "cache", IN_TURN) as found:
        yield found


class Answer(NamedTuple):
    """What a replica has answered: at what time, which status, and the run of the models."""

    replica: int
    at: float
    status: int
    run: str | None


class Clients:
    """Clients that ask one replica after the other, and the next one if the service cannot answer."""

    def __init__(self, ports: list[int]) -> None:
        self._addresses, self._ended = [f"http://127.0.0.1:{port}" for port in ports], threading.Event()
        self.answers, self.lost = list[Answer](), 0
        self._threads = [threading.Thread(target=self._ask) for _ in ports]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def runs(self) -> dict[int, str | None]:
        """The last run of each replica."""
        return {answer.replica: answer.run for answer in self.answers if answer.status == 200}

    def _ask(self) -> None:
        body: dict[str, Any] = {"kb": WORLD, "documents": [document("the sword of the old beast", "sword", "beast")]}
        order = cycle(range(len(self._addresses)))
        with httpx.Client(timeout=SECONDS, trust_env=False) as client:
            while not self._ended.is_set():
                for _ in self._addresses:
                    replica = next(order)
                    answer = client.post(f"{self._addresses[replica]}/v1/link", json=body)
                    run = answer.json()["linked_by"]["run"] if answer.status_code == 200 else None
                    self.answers.append(Answer(replica, time.monotonic(), answer.status_code, run))
                    if run is not None:
                        break
                    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
                else:
                    self.lost += 1


def test_replicas_switch_one_after_the_other_and_no_request_is_lost(store: Store, tmp_path: Path, fault: Fault) -> None:
    fault("service: new champion under load")
    ports, logs = [free_port() for _ in range(REPLICAS)], [tmp_path / f"log{number}" for number in range(REPLICAS)]
    processes = []
    for port, log in zip(ports, logs, strict=True):
        flags = ["--switch", "in-turn", "--leave-seconds", "0.5", "--poll-seconds", "0.1", "--port", str(port)]
        arguments = ["serve", "--store", store.address, "--kb", WORLD, *flags]
        processes.append(fork_server().Process(target=start, args=(arguments, str(log))))
    try:
        for process in processes:
            process.start()
        for port in ports:
            wait_until_ready(port)
        with Clients(ports) as clients:
            promote(store, run="second", fusion=None, calibration=None)
            wait_for_all(clients, "second")
        for process in processes:
            assert process.pid is not None
            os.kill(process.pid, signal.SIGTERM)
            process.join(SECONDS)
    finally:
        for process in processes:
            process.kill()
    written = "\n".join(log.read_text() for log in logs)
    assert clients.lost == 0, written
    assert [process.exitcode for process in processes] == [0] * REPLICAS, written
    assert written.count("make room for those of second") == REPLICAS
    assert "another replica has taken over" not in written
    away = sorted(intervals_without_answer(clients.answers))
    assert len(away) >= REPLICAS, "expected clients to notice that replicas are away"
    assert all(earlier[1] < later[0] for earlier, later in pairwise(away)), away


def wait_for_all(clients: Clients, run: str) -> None:
    deadline = time.monotonic() + 2 * SECONDS
    while clients.runs() != dict.fromkeys(range(REPLICAS), run):
        assert time.monotonic() < deadline, clients.runs()
        time.sleep(0.05)


def intervals_without_answer(answers: list[Answer]) -> Iterator[tuple[float, float]]:
    """Yields when a replica answered with 503 first and last before it linked again."""
    for replica in range(REPLICAS):
        first = last = None
        for answer in (answer for answer in sorted(answers, key=lambda answer: answer.at) if answer.replica == replica):
            if answer.status == 503:
                first, last = first or answer.at, answer.at
            elif first is not None and last is not None:
                yield first, last
                first = last = None


def serves(running: Running, run: str) -> bool:
    """Returns True if the models of this run link. There are none while new ones are loaded."""
    bases = running.client.get("/v1/kbs").json()["kbs"]
    return [base["run"] for base in bases] == [run] and running.is_ready()


def turn_is_free(store: Store) -> bool:
    turns = Turns(store)
    is_free = turns.take()
    turns.close(SECONDS)
    return is_free


def test_earlier_models_are_freed_before_new_ones_are_loaded(
    store: Store, in_turn: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_turn.links(WORLD, document("the sword of the old beast", "sword"))
    used = weakref.ref(in_turn.service.follower.bases[WORLD].models.loaded)
    were_there, load = list[LoadedModels | None](), ServedModels.load
    monkeypatch.setattr(ServedModels, "load", lambda *given: were_there.append(used()) or load(*given))  # type: ignore[func-returns-value]
    promote(store, run="second", fusion=None, calibration=None)
    in_turn.wait(lambda: serves(in_turn, "second"), "the new champion")
    assert were_there == [None]
    in_turn.wait(lambda: turn_is_free(store), "the end of the turn")


def test_replica_that_waits_for_its_turn_links_with_what_it_has(store: Store, in_turn: Running) -> None:
    other, before = Turns(store), served_run(in_turn)
    assert other.take()
    promote(store, run="second", fusion=None, calibration=None)
    in_turn.wait(lambda: not in_turn.client.get("/v1/kbs").json()["kbs"][0]["champion"], "another champion")
    add(store, WORLD, [ROBOT])
    in_turn.wait(lambda: "z1" in candidates(in_turn), "the new entity")
    assert (served_run(in_turn), in_turn.is_ready()) == (before, True)
    other.close(SECONDS)
    in_turn.wait(lambda: serves(in_turn, "second"), "the new champion")
    assert "z1" in candidates(in_turn)


def test_replica_does_not_leave_for_models_that_cannot_be_fetched(
    store: Store, in_turn: Running, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    fault("service: models of the champion are gone")
    before = served_run(in_turn)
    promote(store, run="second", crossencoder=f"artifacts/train-crossencoder/{'0' * 64}")
    in_turn.wait(lambda: "serving what was served before" in caplog.text, "a warning")
    assert (served_run(in_turn), in_turn.is_ready()) == (before, True)
    assert turn_is_free(store)


def test_replica_that_cannot_load_new_models_keeps_its_turn_and_tries_again(
    store: Store,
    in_turn: Running,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault("service: models cannot be loaded")
    load, tries = ServedModels.load, 0

    def fails_twice(*given: Any) -> ServedModels:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise RuntimeError("no memory")
        return load(*given)

    caplog.set_level("INFO")
    monkeypatch.setattr(ServedModels, "load", fails_twice)
    promote(store, run="second", fusion=None, calibration=None)
    in_turn.wait(lambda: tries == 1, "a failed attempt")
    assert not in_turn.is_ready()
    assert not turn_is_free(store)
    assert in_turn.link(WORLD, document("the sword", "sword")).status_code == 503
    in_turn.wait(lambda: serves(in_turn, "second"), "the new champion")
    assert caplog.text.count("loading the models of second") == 1
    assert caplog.text.count("RuntimeError('no memory')") == 1
