"""One replica at a time has its turn, also if that one dies."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faults import Fault
from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.serving.turns import Turns
from zeshel_tasks.store import LocalStore

SECONDS = 30.0


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_one_replica_has_its_turn_until_it_ends_it(store: LocalStore) -> None:
    first, second = Turns(store), Turns(store)
    assert [first.take(), first.take(), second.take(), second.take()] == [True, True, False, False]
    first.close(SECONDS)
    assert not first.is_mine
    assert second.take()
    assert not first.take()
    second.close(SECONDS)


def test_a_turn_that_is_about_to_end_is_not_taken_again(store: LocalStore) -> None:
    first, second = Turns(store), Turns(store)
    assert first.take()
    first.end(after_seconds=100 * SECONDS)
    assert first.is_mine
    assert not first.take()
    assert not second.take()
    first.end()
    wait_for(second.take)
    second.close(SECONDS)


def test_a_replica_that_renews_its_turn_keeps_it_for_long(store: LocalStore) -> None:
    first, second = Turns(store, renew_seconds=0.005, dead_seconds=SECONDS), Turns(store, dead_seconds=SECONDS)
    assert first.take()
    for _ in range(5):
        before = store.get("serving/turn")
        wait_for(lambda before=before: store.get("serving/turn") != before)  # type: ignore[misc]
        assert not second.take()
    first.close(SECONDS)


def test_the_turn_of_a_dead_replica_passes_to_another_which_it_does_not_disturb(
    store: LocalStore, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    fault("service: replica dies in its turn")
    dead, second = Turns(store, renew_seconds=0.3), Turns(store, dead_seconds=0.05)
    assert dead.take()  # and does not renew it in time
    wait_for(second.take)
    assert "has not been heard of" in caplog.text
    wait_for(lambda: not dead.is_mine)
    assert "another replica has taken over the turn" in caplog.text
    assert second.is_mine
    assert not Turns(store).take()
    second.close(SECONDS)


def test_a_silent_store_does_not_end_the_turn(
    store: LocalStore, fault: Fault, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault("service: store does not answer")
    turns = Turns(store, renew_seconds=0.005)
    assert turns.take()

    def fails(_key: str) -> None:
        raise StoreUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(store, "get_version", fails)
        wait_for(lambda: "sign of life" in caplog.text)
    assert turns.is_mine
    turns.close(SECONDS)
    assert store.get("serving/turn") == b"free\n"
