"""The processes of a training over several nodes act as one. Here, each is a thread."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.faults import Fault
from zeshel_tasks.compute import gang_messages
from zeshel_tasks.compute.gang import Gang
from zeshel_tasks.compute.gang_joining import connected_gang, joined_gang
from zeshel_tasks.compute.gang_seat import Seat
from zeshel_tasks.config.stages import Recipe
from zeshel_tasks.errors import ConfigError, DataError, TryAgain, ZeshelError

Work = Callable[[Gang], object]


@pytest.fixture(autouse=True)
def _news_come_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost here, so a process knows soon that no other one has failed."""
    monkeypatch.setattr(gang_messages, "_NEWS_SECONDS", 1.0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _ended(work: Work, rank: int, size: int, port: int, minutes: float) -> object:
    """What the work of a process returns or raises."""
    try:
        with connected_gang(Seat(rank, size, 0, "127.0.0.1", port), minutes) as gang:
            return work(gang)
    except Exception as error:
        return error


def together(*works: Work, minutes: float = 0.5) -> list[object]:
    """Runs a function in each process of a gang, and returns how each of them ended."""
    port = _free_port()
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(_ended, work, rank, len(works), port, minutes) for rank, work in enumerate(works)]
        return [future.result(60) for future in futures]


def test_first_process_tells_and_the_others_hear_in_order() -> None:
    made: list[str] = []

    def work(gang: Gang) -> list[str]:
        with gang.first_then_others():
            made.append(f"by {gang.rank}")
        return [*gang.gather(str(gang.rank)), gang.shared(lambda: "a"), gang.shared(lambda: "b")]

    assert together(work, work, work) == [["0", "1", "2", "a", "b"]] * 3
    assert made[0] == "by 0"
    assert sorted(made) == ["by 0", "by 1", "by 2"]


def test_different_settings_are_refused_by_all_processes(fault: Fault) -> None:
    works = [lambda gang, rate=rate: gang.check_same({"learning_rate": rate, "seed": 1}) for rate in (1e-5, 1e-5, 2e-5)]
    ends = together(*works)
    fault("training: two hosts have different settings")
    host = socket.gethostname()
    expected = f"learning_rate: expected 1e-05, as in process 0 on {host}, got 2e-05 in process 2 on {host}"
    assert [type(end) for end in ends] == [ConfigError] * 3
    assert all(str(end).endswith(expected) for end in ends)


def test_error_of_one_process_is_that_of_all(fault: Fault) -> None:
    def fail(_: Gang) -> None:
        raise DataError("no mentions", file="train.jsonl")

    ends = together(lambda gang: gang.hear() if gang.rank else gang.gather(""), fail, lambda gang: gang.hear())
    fault("training: one host of several fails")
    assert [type(end) for end in ends] == [DataError] * 3
    assert str(ends[0]) == str(ends[2]) == f"process 1 on {socket.gethostname()}: train.jsonl: no mentions"


def test_crash_of_one_process_is_a_crash_of_all() -> None:
    def fail(_: Gang) -> None:
        raise ZeroDivisionError("division by zero")

    follower, leader = together(lambda gang: gang.gather(""), fail)[::-1]
    assert isinstance(follower, ZeroDivisionError)
    assert type(leader) is ZeshelError
    assert leader.exit_code == 1
    assert "ZeroDivisionError: division by zero" in str(leader)


def test_lost_connection_has_the_error_that_caused_it() -> None:
    """The connections of gloo break before the message about the failure arrives."""

    def lose(gang: Gang) -> None:
        raise RuntimeError("[third_party/gloo/transport/tcp/pair.cc:1] Connection closed by peer")

    def fail(gang: Gang) -> None:
        raise ConfigError("bert_model: expected a BERT")

    ends = together(lose, fail)
    assert [type(end) for end in ends] == [ConfigError] * 2
    alone = together(lose, lose)
    assert [type(end) for end in alone] == [TryAgain] * 2
    assert "lost the connection to another process of this training" in str(alone[0])


def test_process_that_comes_twice_ends_the_others(fault: Fault) -> None:
    """A pod was started again alone, while the rest of its gang still waits for the process that is gone."""
    port = _free_port()
    seats = (0, 1, 1)
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(_ended, lambda gang: gang.gather("never"), seat, 3, port, 0.5) for seat in seats]
        ends = [future.result(60) for future in futures]
    fault("training: a host starts again alone")
    assert [type(end) for end in ends] == [TryAgain] * 3
    assert any("process 1 came twice" in str(end) for end in ends)


@pytest.mark.parametrize("rank", [0, 1])
def test_process_that_does_not_come_is_named(rank: int, fault: Fault) -> None:
    end = _ended(lambda gang: None, rank, 2, _free_port(), 0.02)
    fault("training: a host does not come")
    assert isinstance(end, TryAgain)
    expected = "process 1 of 2: expected a sign of life" if rank == 0 else "MASTER_ADDR, MASTER_PORT: expected"
    assert str(end).startswith(expected)
    assert "within 0.02 minutes (stall_minutes)" in str(end)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data_parallel": False}, "data_parallel: expected true for a training in 2 processes, got false"),
        ({"device": "cuda:1"}, "device: expected auto, cuda or cpu for a training in 2 processes"),
        ({"train_batch_size": 1}, "train_batch_size: expected at least 2, a mention of each step for every process"),
    ],
)
def test_settings_that_do_not_suit_several_processes_are_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, object], message: str
) -> None:
    for name, value in Seat(1, 2, 0, "127.0.0.1", 1).variables().items():
        monkeypatch.setenv(name, value)
    config = Recipe().train_biencoder.model_copy(update=settings)
    with pytest.raises(ConfigError) as error, joined_gang(config, trains=True):
        raise AssertionError
    assert str(error.value).startswith(message)


def test_stage_that_does_not_train_runs_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Seat(0, 2, 0, "127.0.0.1", 1).variables().items():
        monkeypatch.setenv(name, value)
    message = "WORLD_SIZE: expected 1 for a stage that does not train, got 2"
    with pytest.raises(ConfigError, match=message), joined_gang(Recipe().convert, trains=False):
        raise AssertionError
