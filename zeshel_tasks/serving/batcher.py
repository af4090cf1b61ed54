"""Joins the mentions of requests into batches. One thread computes, because the models belong to one thread.

The thread takes what waits, at most ``batch_mentions`` at once, and shares a batch fairly: a request with hundreds of
mentions takes turns with the others. It waits a few milliseconds until as many requests are there as there were when
the last batch ended, because clients that were answered come back. A client that is alone never waits for others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from zeshel_tasks.config.link import LinkMode
from zeshel_tasks.linking.linker import Linked, Linker
from zeshel_tasks.linking.mention_texts import MentionInContext
from zeshel_tasks.serving.metrics import Metrics

log = logging.getLogger(__name__)

_FIRST_GUESS = 10.0  # mentions per second, until a batch has been measured
_MEMORY = 0.8  # of the measured speed


class QueueFull(Exception):
    """Too many mentions wait.

    Args:
        seconds: until there is probably room.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"full for about {seconds:.0f} s")
        self.seconds = seconds


@dataclass(eq=False)
class _Work:
    """The mentions of a request."""

    linker: Linker
    mode: LinkMode
    mentions: Sequence[MentionInContext]
    done: Future[list[Linked]] = field(default_factory=Future)
    found: list[Linked] = field(default_factory=list)

    @property
    def left(self) -> int:
        return len(self.mentions) - len(self.found)

    def next(self, count: int) -> Sequence[MentionInContext]:
        return self.mentions[len(self.found) : len(self.found) + count]


class Batcher:
    """Links mentions in a thread of its own.

    Args:
        batch_mentions: most mentions of a batch.
        wait_seconds: how long the thread waits for requests that may come back.
        max_waiting: most mentions that may wait.
        metrics: where to count.
    """

    def __init__(self, batch_mentions: int, wait_seconds: float, max_waiting: int, metrics: Metrics) -> None:
        self._size, self._wait, self._max_waiting, self._metrics = batch_mentions, wait_seconds, max_waiting, metrics
        self._queue: deque[_Work] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._answered = 0  # requests, by the last batch
        self._speed = _FIRST_GUESS
        self._thread = threading.Thread(target=self._loop, name="models", daemon=True)
        self._thread.start()

    def submit(
        self, linker: Linker, mode: LinkMode, mentions: Sequence[MentionInContext], *, urgent: bool = False
    ) -> Future[list[Linked]]:
        """Returns a future of the links, in the order of the mentions. If it is cancelled, its mentions are dropped.

        Args:
            linker: links them.
            mode: which of them are re-ranked. A batch never mixes two linkers or modes.
            mentions: of a request.
            urgent: take them first, even if too many wait.

        Raises:
            QueueFull: too many mentions wait.
        """
        work = _Work(linker, mode, mentions)
        with self._changed:
            if self._closed:
                raise QueueFull(1)
            waiting = self._waiting()
            if waiting and waiting + work.left > self._max_waiting and not urgent:
                raise QueueFull(waiting / self._speed)
            if urgent:
                self._queue.appendleft(work)
            else:
                self._queue.append(work)
            self._note()
            self._changed.notify()
        return work.done

    def close(self, seconds: float | None = None) -> bool:
        """Ends the thread after it has linked what waits. Returns False if it is busy after these seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _waiting(self) -> int:
        return sum(work.left for work in self._queue)

    def _note(self) -> None:
        self._metrics.waiting.set(self._waiting())

    def _loop(self) -> None:
        while self._computes_next():
            pass

    def _computes_next(self) -> bool:
        """Computes the next batch, and keeps nothing of it: its models may be about to be freed."""
        if batch := self._next():
            self._compute(batch)
        return bool(batch)

    def _next(self) -> list[tuple[_Work, int]]:
        """Waits for work and returns the next batch: works, and how many mentions of each. Empty at the end."""
        with self._changed:
            expected, self._answered = len(self._queue) + self._answered, 0
            while True:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._changed.wait_for(
                    lambda: self._closed or len(self._queue) >= expected or self._waiting() >= self._size, self._wait
                )
                self._drop_cancelled()
                if self._queue:
                    return self._chosen()
                if self._closed:
                    return []

    def _drop_cancelled(self) -> None:
        dropped = [work for work in self._queue if work.done.cancelled()]
        for work in dropped:
            self._queue.remove(work)
            self._metrics.dropped.inc(work.left)
        self._note()

    def _chosen(self) -> list[tuple[_Work, int]]:
        """Takes those that go with the first one out of the queue, as far as they fit into a batch."""
        first, room = self._queue[0], self._size
        counts = {work: 0 for work in self._queue if work.linker is first.linker and work.mode == first.mode}
        for most in (max(1, room // len(counts)), room):  # first an equal share for each, then what is left
            for work in counts:
                more = min(work.left - counts[work], most - counts[work], room)
                counts[work] += more
                room -= more
        chosen = [(work, count) for work, count in counts.items() if count]
        for work, _ in chosen:
            self._queue.remove(work)
        return chosen

    def _compute(self, batch: list[tuple[_Work, int]]) -> None:
        started, first = time.monotonic(), batch[0][0]
        mentions = [mention for work, count in batch for mention in work.next(count)]
        try:
            found = iter(list(first.linker.link(mentions, first.mode)))
        except Exception as error:
            self._fail(batch, error)
            return
        seconds = time.monotonic() - started
        self._metrics.batch_mentions.observe(len(mentions))
        self._metrics.batch_seconds.observe(seconds)
        if mentions:
            self._speed = _MEMORY * self._speed + (1 - _MEMORY) * len(mentions) / max(seconds, 1e-6)
        for work, count in batch:
            work.found.extend(next(found) for _ in range(count))
            self._put_back_or_finish(work)

    def _put_back_or_finish(self, work: _Work) -> None:
        if work.left:
            with self._changed:
                self._queue.append(work)
        elif work.done.set_running_or_notify_cancel():
            self._answered += 1
            work.done.set_result(work.found)

    def _fail(self, batch: list[tuple[_Work, int]], error: Exception) -> None:
        """Computes each work of a failed batch alone, so that one does not fail because of another."""
        if len(batch) > 1:
            for work in batch:
                self._compute([work])
        elif batch[0][0].done.set_running_or_notify_cancel():
            batch[0][0].done.set_exception(error)
