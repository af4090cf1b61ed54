"""Mentions of requests are joined into batches, fairly and in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, wait
from typing import Any, cast

import pytest

from tests.support.faults import Fault
from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.link_files.contexts import TextMention
from zeshel_tasks.linking.linker import Linked, Linker
from zeshel_tasks.linking.mention_texts import MentionInContext
from zeshel_tasks.serving.batcher import Batcher, QueueFull
from zeshel_tasks.serving.metrics import Metrics

SECONDS = 30.0


class Echo:
    """Returns the words of mentions. Waits for a permit before each batch, if it was told to."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.may_go = threading.Event()
        self.has_begun = threading.Event()
        self.may_go.set()

    def link(self, mentions: Sequence[MentionInContext], mode: LinkMode) -> Iterator[Any]:
        self.has_begun.set()
        assert self.may_go.wait(SECONDS)
        words = [mention.mention for mention in mentions]
        self.batches.append(words)
        if "poison" in words:
            raise ValueError("poison")
        yield from words


class Setup:
    def __init__(self, size: int = 4, wait_seconds: float = 0.0, max_waiting: int = 100) -> None:
        self.metrics = Metrics()
        self.batcher = Batcher(size, wait_seconds, max_waiting, self.metrics)

    def submit(self, echo: Echo, *words: str, mode: LinkMode = "rerank", urgent: bool = False) -> Future[list[Linked]]:
        mentions = [TextMention("", word, "") for word in words]
        return self.batcher.submit(cast(Linker, echo), mode, mentions, urgent=urgent)

    def blocked(self, echo: Echo) -> Future[list[Linked]]:
        """Lets the thread compute a mention until the test gives a permit."""
        echo.may_go.clear()
        first = self.submit(echo, "first")
        assert echo.has_begun.wait(SECONDS)
        return first


@pytest.fixture
def echo() -> Echo:
    return Echo()


def test_waiting_requests_are_computed_together_and_get_their_own_links(echo: Echo) -> None:
    setup = Setup(size=8)
    first = setup.blocked(echo)
    others = [setup.submit(echo, f"{number}a", f"{number}b") for number in range(3)]
    echo.may_go.set()
    assert [done.result(SECONDS) for done in (first, *others)] == [["first"], ["0a", "0b"], ["1a", "1b"], ["2a", "2b"]]
    assert [len(batch) for batch in echo.batches] == [1, 6]


def test_a_client_that_is_alone_never_waits_for_others(echo: Echo) -> None:
    setup = Setup(size=8, wait_seconds=100 * SECONDS)
    for word in "abc":
        assert setup.submit(echo, word).result(SECONDS) == [word]


def test_answered_clients_are_waited_for_and_computed_together(echo: Echo) -> None:
    setup = Setup(size=8, wait_seconds=100 * SECONDS)
    first = setup.blocked(echo)
    waiting = [setup.submit(echo, "a"), setup.submit(echo, "b")]
    echo.may_go.set()
    assert first.result(SECONDS) == ["first"]
    waiting.append(setup.submit(echo, "first again"))
    wait(waiting, SECONDS)
    assert echo.batches == [["first"], ["a", "b", "first again"]]


def test_the_wait_for_clients_that_do_not_come_back_ends(echo: Echo) -> None:
    setup = Setup(size=8, wait_seconds=0.01)
    setup.blocked(echo)
    waiting = setup.submit(echo, "a")
    echo.may_go.set()
    assert waiting.result(SECONDS) == ["a"]


def test_a_full_batch_waits_for_nobody(echo: Echo) -> None:
    setup = Setup(size=2, wait_seconds=100 * SECONDS)
    setup.blocked(echo)
    waiting = [setup.submit(echo, "a"), setup.submit(echo, "b")]
    echo.may_go.set()
    assert [done.result(SECONDS) for done in waiting] == [["a"], ["b"]]


def test_a_large_request_takes_turns_with_small_ones(echo: Echo) -> None:
    setup = Setup(size=4)
    setup.blocked(echo)
    large = setup.submit(echo, *(f"large{number}" for number in range(12)))
    small = setup.submit(echo, "small")
    echo.may_go.set()
    assert large.result(SECONDS) == [f"large{number}" for number in range(12)]
    assert small.result(SECONDS) == ["small"]
    assert "small" in echo.batches[1]
    assert max(map(len, echo.batches)) == 4


def test_a_batch_never_mixes_two_linkers(echo: Echo) -> None:
    setup, other = Setup(size=8), Echo()
    setup.blocked(echo)
    futures = [setup.submit(linker, str(number)) for number, linker in enumerate([echo, other, echo, other])]
    echo.may_go.set()
    wait(futures, SECONDS)
    assert (echo.batches, other.batches) == ([["first"], ["0", "2"]], [["1", "3"]])


def test_a_batch_never_mixes_two_modes(echo: Echo) -> None:
    setup = Setup(size=8)
    setup.blocked(echo)
    modes: list[LinkMode] = ["rerank", "retrieve", "rerank"]
    futures = [setup.submit(echo, str(number), mode=mode) for number, mode in enumerate(modes)]
    echo.may_go.set()
    wait(futures, SECONDS)
    assert echo.batches == [["first"], ["0", "2"], ["1"]]


def test_mentions_of_a_client_that_has_gone_are_dropped(echo: Echo, fault: Fault) -> None:
    fault("service: client gone")
    setup = Setup(size=1)
    setup.blocked(echo)
    gone, stays = setup.submit(echo, "gone", "gone"), setup.submit(echo, "stays")
    assert gone.cancel()
    echo.may_go.set()
    assert stays.result(SECONDS) == ["stays"]
    assert echo.batches == [["first"], ["stays"]]
    assert "zeshel_dropped_mentions_total 2.0" in setup.metrics.page().decode()


def test_a_full_queue_refuses_requests_but_not_a_warm_up(echo: Echo, fault: Fault) -> None:
    fault("service: too many requests")
    setup = Setup(size=1, max_waiting=3)
    setup.blocked(echo)
    alone = setup.submit(echo, *"abcdef")  # an empty queue takes a request of any size
    with pytest.raises(QueueFull) as raised:
        setup.submit(echo, "g")
    assert raised.value.seconds > 0
    urgent = setup.submit(echo, "urgent", urgent=True)
    echo.may_go.set()
    assert (alone.result(SECONDS), urgent.result(SECONDS)) == (list("abcdef"), ["urgent"])
    assert echo.batches[1] == ["urgent"]
    assert setup.submit(echo, "g").result(SECONDS) == ["g"]


def test_a_request_that_fails_does_not_fail_others(echo: Echo, fault: Fault) -> None:
    fault("service: unexpected error")
    setup = Setup(size=8)
    setup.blocked(echo)
    bad, good = setup.submit(echo, "poison"), setup.submit(echo, "good")
    echo.may_go.set()
    assert good.result(SECONDS) == ["good"]
    with pytest.raises(ValueError, match="poison"):
        bad.result(SECONDS)


def test_closing_computes_what_waits(echo: Echo) -> None:
    setup = Setup(size=1, wait_seconds=SECONDS)
    setup.blocked(echo)
    waiting = [setup.submit(echo, str(number)) for number in range(3)]
    closing = threading.Thread(target=setup.batcher.close)
    closing.start()
    while not setup.batcher._closed:
        time.sleep(0.001)
    with pytest.raises(QueueFull):
        setup.submit(echo, "late")
    echo.may_go.set()
    closing.join(SECONDS)
    assert [done.result(0) for done in waiting] == [["0"], ["1"], ["2"]]
