"""The messages of a gang of two or more processes, and the signs of life that they give each other.

Only one thread uses the key-value store, because a request may hang forever if the network is cut.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from zeshel_tasks.compute.gang import Gang
from zeshel_tasks.compute.gang_failure import Failure, may_be_consequence
from zeshel_tasks.compute.gang_seat import Seat
from zeshel_tasks.compute.gang_store import connected_store, leave_torch
from zeshel_tasks.compute.termination import end_now
from zeshel_tasks.errors import TryAgain, ZeshelError

log = logging.getLogger(__name__)

_TICK_SECONDS, _WAITING_TICK_SECONDS = 0.5, 0.1  # between two looks into the store
_NEWS_SECONDS = 5.0  # in which another process's error arrives after the connection to it is lost
_FAREWELL_SECONDS = 5.0  # for which the first process stays, so that all others learn how it ended
_UNWINDING_SECONDS = 30.0  # for a process to end after the error of another one
_FAILURE = "failure"
_NOT_YET_ASKED = -1  # a count of signs of life


class ConnectedGang(Gang):
    """Two or more processes.

    A thread carries messages and counts, for each process, the signs of life that the others see.
    """

    def __init__(self, seat: Seat, minutes: float) -> None:
        self.rank, self.size, self.of_nodes = seat.rank, seat.size, seat.is_node
        self._seconds = 60 * minutes
        self._store = connected_store(seat, minutes)
        self._changed = threading.Condition()
        self._outbox: dict[str, str] = {}
        self._unsent = 0
        self._awaited: dict[str, int] = {}  # key -> rank of the process that will write it
        self._arrived: dict[str, str] = {}
        self._signs: dict[int, tuple[int, float]] = {}  # rank -> last count, and when it changed
        self._gathered = self._told = 0
        self._failure: Failure | None = None
        self._failing = self._cut = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._carry, name="gang", daemon=True)

    @property
    def broken(self) -> bool:
        return self._failure is not None

    def greet(self) -> None:
        """Waits for all processes.

        Raises:
            TryAgain: one does not come in time, or comes twice: it was started again while the others still ran.
        """
        came = self._store.add(f"came/{self.rank}", 1)
        self._thread.start()
        if came > 1:
            raise TryAgain(f"process {self.rank} came twice: it was started again, or two processes have this rank")
        log.info("waiting for %d processes, %g minutes at most (stall_minutes)", self.size, self._seconds / 60)
        self.gather("")
        log.info("all %d processes are there", self.size)

    def gather(self, text: str) -> list[str]:
        self._gathered += 1
        self._write({f"gather/{self._gathered}/{self.rank}": text})
        return self._read({f"gather/{self._gathered}/{rank}": rank for rank in range(self.size)})

    def tell(self, text: str) -> None:
        self._told += 1
        self._write({f"told/{self._told}": text})

    def hear(self) -> str:
        self._told += 1
        (text,) = self._read({f"told/{self._told}": 0})
        return text

    def part(self) -> None:
        """Ends the work. The first process waits for all others, because its end closes the store."""
        self._write({f"done/{self.rank}": ""})
        if self.leads:
            self._read({f"done/{rank}": rank for rank in range(self.size)})
        else:  # the result is there already, so it does not matter who is lost now
            self._wait_for(lambda: not self._unsent, _FAREWELL_SECONDS)

    def fail(self, error: BaseException) -> ZeshelError | None:
        """Reports an error. Returns that of the process that failed first, if it is another one."""
        self._failing = True
        if may_be_consequence(error):
            self._wait_for(lambda: self._failure is not None, _NEWS_SECONDS)
        self._write({_FAILURE: Failure.of(self.rank, error).model_dump_json()})
        self._wait_for(lambda: self._failure is not None, _NEWS_SECONDS)
        if self._failure is None or self._failure.rank == self.rank or not isinstance(error, Exception):
            return None
        return self._failure.error()

    def close(self) -> None:
        """Ends the connections. The first process stays until all others know of a failure."""
        if self._failure is not None and self.leads:
            others = range(1, self.size)
            with self._changed:
                self._awaited = {f"knows/{rank}": rank for rank in others}
                self._signs = dict.fromkeys(others, (_NOT_YET_ASKED, time.monotonic()))
            knows_or_never_came = lambda rank: f"knows/{rank}" in self._arrived or self._signs[rank][0] == 0  # noqa: E731
            self._wait_for(lambda: all(map(knows_or_never_came, others)), _FAREWELL_SECONDS)
        leave_torch()
        self._closed.set()

    def _write(self, texts: dict[str, str]) -> None:
        with self._changed:
            self._outbox |= texts
            self._unsent = len(self._outbox)
            self._changed.notify_all()

    def _read(self, keys: dict[str, int]) -> list[str]:
        """Returns the texts of some keys.

        Args:
            keys: key -> rank of the process that writes it.

        Raises:
            TryAgain: such a process is silent for too long.
            ZeshelError: a process failed.
        """
        with self._changed:
            self._awaited = dict(keys)
            self._signs = dict.fromkeys(keys.values(), (_NOT_YET_ASKED, time.monotonic()))
            self._changed.notify_all()
        while True:
            with self._changed:
                self._changed.wait(_TICK_SECONDS)
                if all(key in self._arrived for key in keys):
                    self._awaited = {}
                    return [self._arrived.pop(key) for key in keys]
                if self._failure is not None:
                    raise self._failure.error()
                self._check_signs(rank for key, rank in keys.items() if key not in self._arrived)

    def _check_signs(self, ranks: Iterable[int]) -> None:
        if self._cut:
            raise TryAgain("lost the connection to the first process of this training")
        last = time.monotonic() - self._seconds
        silent = sorted({rank for rank in ranks if self._signs[rank][1] < last})
        if silent:
            raise TryAgain(
                f"process {', '.join(map(str, silent))} of {self.size}: expected a sign of life within "
                f"{self._seconds / 60:g} minutes (stall_minutes), got none"
            )

    def _wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._cut, seconds)

    def _carry(self) -> None:
        """Runs in the thread."""
        known_since: float | None = None
        while not self._closed.is_set():
            try:
                self._exchange()
            except RuntimeError as error:  # torch's own errors are of this class
                log.info("the first process's key-value store does not answer: %s", str(error).splitlines()[0])
                with self._changed:
                    self._cut = True
                    self._changed.notify_all()
                return
            if self._failure is not None and not self._failing:
                known_since = known_since or time.monotonic()
                if time.monotonic() - known_since > _UNWINDING_SECONDS:
                    self._end(self._failure)
            with self._changed:
                if not self._outbox:
                    waiting = self._failing or not self._awaited.keys() <= self._arrived.keys()
                    self._changed.wait(_WAITING_TICK_SECONDS if waiting else _TICK_SECONDS)

    def _exchange(self) -> None:
        with self._changed:
            outbox, self._outbox = self._outbox, {}
            awaited = {key: rank for key, rank in self._awaited.items() if key not in self._arrived}
        for key, text in outbox.items():
            if key == _FAILURE:
                self._store.compare_set(key, "", text)  # the first failure stays
            else:
                self._store.set(key, text)
        self._store.add(f"alive/{self.rank}", 1)
        arrived = {key: self._store.get(key).decode() for key in awaited if self._store.check([key])}
        counts = {rank: self._store.add(f"alive/{rank}", 0) for rank in set(awaited.values())}
        failure = self._failure
        if failure is None and self._store.check([_FAILURE]):
            failure = Failure.model_validate_json(self._store.get(_FAILURE))
            self._store.set(f"knows/{self.rank}", "")
        now = time.monotonic()
        with self._changed:
            self._unsent = len(self._outbox)
            self._arrived |= arrived
            self._failure = failure
            for rank, count in counts.items():
                if rank in self._signs and self._signs[rank][0] != count:
                    self._signs[rank] = count, now
            self._changed.notify_all()

    def _end(self, failure: Failure) -> None:
        """Ends the process, whose main thread hangs: it waits for the process that failed."""
        log.error("%s", failure.error())
        logging.shutdown()
        end_now(failure.error().exit_code)
