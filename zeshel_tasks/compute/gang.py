"""Lets the processes of a training over several nodes act as one: they start, fail and end together.

The first process decides whether an artifact is reused, commits it and records it. The others do as it says. They all
compare their settings before they start. An error of one process ends the others with the same exit code.

They talk through torch's key-value store at ``MASTER_ADDR:MASTER_PORT``, which also connects the processes of
torch.distributed. Only one thread uses it, because a request may hang forever if the network is cut.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from zeshel_tasks import errors
from zeshel_tasks.compute.gang_seat import Seat, seat_in
from zeshel_tasks.compute.termination import end_now
from zeshel_tasks.config.encoder import EncoderConfig
from zeshel_tasks.config.stage_config import StageConfig
from zeshel_tasks.errors import ConfigError, TryAgain, ZeshelError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.logs import name_process
from zeshel_tasks.text.safe_text import quoted

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

log = logging.getLogger(__name__)

AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"
"""Set by torchrun, whose first agent runs the key-value store."""
ATTEMPT = "TORCHELASTIC_RESTART_COUNT"

_TICK_SECONDS, _WAITING_TICK_SECONDS = 0.5, 0.1  # between two looks into the store
_NEWS_SECONDS = 5.0  # in which another process's error arrives after the connection to it is lost
_FAREWELL_SECONDS = 5.0  # for which the first process stays, so that all others learn how it ended
_UNWINDING_SECONDS = 30.0  # for a process to end after the error of another one
_FAILURE = "failure"
_NOT_YET_ASKED = -1  # a count of signs of life


class Gang:
    """The processes that train together, seen from one of them. This class is a process on its own.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        of_nodes: True if each process stands for a machine and starts processes of its own.
    """

    rank = 0
    size = 1
    of_nodes = False

    @property
    def leads(self) -> bool:
        """True for the first process, which alone commits and records."""
        return self.rank == 0

    @property
    def broken(self) -> bool:
        """True if another process has failed."""
        return False

    def gather(self, text: str) -> list[str]:
        """Returns the texts of all processes, by rank."""
        return [text]

    def tell(self, text: str) -> None:
        """Sends a text from the first process to all others, which :meth:`hear` it, in order."""

    def hear(self) -> str:
        """Returns the next text that the first process tells. Waits for it."""
        raise AssertionError("there is no other process")

    def shared(self, make: Callable[[], str]) -> str:
        """Returns to all processes what the first one makes."""
        text = make() if self.leads else self.hear()
        if self.leads:
            self.tell(text)
        return text

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """The first process runs the body of the context, then the others do."""
        if not self.leads:
            self.hear()
        yield
        if self.leads:
            self.tell("")

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Checks that all processes know the same facts.

        Raises:
            ConfigError: a process differs from the first one.
        """
        mine = {name: to_json(value) for name, value in facts.items()}
        everyone = [_Facts.model_validate_json(text) for text in self.gather(_Facts.of(mine).model_dump_json())]
        problems = [
            f"{name}: expected {expected}, as in process 0 on {everyone[0].host}, got {other.facts.get(name)} in "
            f"process {rank} on {other.host}"
            for rank, other in enumerate(everyone)
            for name, expected in everyone[0].facts.items()
            if other.facts.get(name) != expected
        ]
        if problems:
            raise ConfigError(*problems)


ALONE = Gang()


class _Facts(BaseModel):
    host: str
    facts: dict[str, str]

    @classmethod
    def of(cls, facts: dict[str, str]) -> _Facts:
        return cls(host=socket.gethostname(), facts=facts)


class _Failure(BaseModel):
    rank: int
    host: str
    kind: str
    message: str

    @classmethod
    def of(cls, rank: int, error: BaseException) -> _Failure:
        known = isinstance(error, ZeshelError)
        if not isinstance(error, Exception):  # SIGTERM before the first step, or Ctrl-C
            kind, message = TryAgain.__name__, "it was told to stop"
        else:
            kind = type(error).__name__ if known else ZeshelError.__name__
            message = str(error) if known else f"{type(error).__name__}: {error}"
        return cls(rank=rank, host=socket.gethostname(), kind=kind, message=message)

    def error(self) -> ZeshelError:
        kind = getattr(errors, self.kind, ZeshelError)
        assert issubclass(kind, ZeshelError)
        error: ZeshelError = kind(f"process {self.rank} on {self.host}: {self.message}")
        return error


@contextmanager
def joined_gang(config: StageConfig, *, trains: bool) -> Iterator[Gang]:
    """The gang that the environment describes, from before the first work of a stage to its end.

    Args:
        config: settings of the stage.
        trains: True for a stage that may run in several processes.

    Raises:
        ConfigError: the environment is wrong, or the settings do not suit it.
        TryAgain: another process does not come, is lost or asks for another attempt.
        ZeshelError: another process failed.
    """
    seat = seat_in(os.environ)
    if seat is None:
        yield ALONE
        return
    if not trains:
        raise ConfigError(f"WORLD_SIZE: expected 1 for a stage that does not train, got {seat.size}")
    assert isinstance(config, EncoderConfig)
    _check_settings(config, seat)
    name_process(f"rank {seat.rank} of {seat.size}", progress=seat.rank == 0)
    if not seat.is_node:
        os.environ.update(seat.variables())
    with connected_gang(seat, config.stall_minutes) as gang:
        yield gang


@contextmanager
def connected_gang(seat: Seat, minutes: float) -> Iterator[Gang]:
    """The gang of this process, connected. An error inside ends all of its processes, with one exit code.

    Args:
        seat: the place of this process.
        minutes: time that another process may be silent.
    """
    gang = _ConnectedGang(seat, minutes)
    try:
        with lost_contact_named():
            gang.greet()
            yield gang
            gang.part()
    except BaseException as error:
        first = gang.fail(error)
        if first is None:
            raise
        log.info("this process ended by %s", error)
        raise first from error
    finally:
        gang.close()


@contextmanager
def lost_contact_named() -> Iterator[None]:
    """Turns the errors with which torch reports a lost process into one that asks for another attempt.

    Raises:
        TryAgain: another process ended, or did not answer in time.
    """
    import torch.distributed as dist

    try:
        yield
    except RuntimeError as error:
        # gloo raises no type of its own, but names its file.
        if not isinstance(error, dist.DistError) and "gloo/" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise TryAgain(f"lost the connection to another process of this training: {reason}") from error


def check_batch(config: EncoderConfig, processes: int) -> None:
    """Checks that each process has a mention of each step.

    Raises:
        ConfigError: there are more processes than mentions in a step.
    """
    if processes > config.train_batch_size:
        raise ConfigError(
            f"train_batch_size: expected at least {processes}, a mention of each step for every process, got "
            f"{config.train_batch_size}"
        )


def _check_settings(config: EncoderConfig, seat: Seat) -> None:
    if not config.data_parallel:
        raise ConfigError(f"data_parallel: expected true for a training in {seat.size} processes, got false")
    if ":" in config.device:
        raise ConfigError(
            f"device: expected auto, cuda or cpu for a training in {seat.size} processes, which each have a GPU of "
            f"their own, got {config.device}"
        )
    check_batch(config, seat.size)


class _ConnectedGang(Gang):
    """Two or more processes.

    A thread carries messages and counts, for each process, the signs of life that the others see.
    """

    def __init__(self, seat: Seat, minutes: float) -> None:
        self.rank, self.size, self.of_nodes = seat.rank, seat.size, seat.is_node
        self._seconds = 60 * minutes
        self._store = _store(seat, minutes)
        self._changed = threading.Condition()
        self._outbox: dict[str, str] = {}
        self._unsent = 0
        self._awaited: dict[str, int] = {}  # key -> rank of the process that will write it
        self._arrived: dict[str, str] = {}
        self._signs: dict[int, tuple[int, float]] = {}  # rank -> last count, and when it changed
        self._gathered = self._told = 0
        self._failure: _Failure | None = None
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
        if _may_be_consequence(error):
            self._wait_for(lambda: self._failure is not None, _NEWS_SECONDS)
        self._write({_FAILURE: _Failure.of(self.rank, error).model_dump_json()})
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
        _leave_torch()
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
            failure = _Failure.model_validate_json(self._store.get(_FAILURE))
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

    def _end(self, failure: _Failure) -> None:
        """Ends the process, whose main thread hangs: it waits for the process that failed."""
        log.error("%s", failure.error())
        logging.shutdown()
        end_now(failure.error().exit_code)


def _may_be_consequence(error: BaseException) -> bool:
    """True for a lost connection, and for the error of a library: another process may have caused it."""
    return type(error) is TryAgain or (isinstance(error, Exception) and not isinstance(error, ZeshelError))


def _store(seat: Seat, minutes: float) -> Store:
    """Connects to the key-value store, which runs in the first process, or in torchrun.

    Raises:
        TryAgain: there is nobody at the address, or another program has its port.
    """
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    log.info("connecting to %s:%d as process %d of %d", seat.address, seat.port, seat.rank, seat.size)
    by_torchrun = os.environ.get(AGENT_STORE) == "True" and not seat.is_node
    try:
        store = TCPStore(
            seat.address,
            seat.port,
            is_master=seat.rank == 0 and not by_torchrun,
            timeout=timedelta(minutes=minutes / 2),  # torch tries twice
            wait_for_workers=False,
            multi_tenant=True,  # torch.distributed connects to the same one
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TryAgain(
            f"MASTER_ADDR, MASTER_PORT: expected the training's first process to listen on {quoted(seat.address)} port "
            f"{seat.port} within {minutes:g} minutes (stall_minutes), got: {reason}"
        ) from error
    return PrefixStore(f"gang/{os.environ.get(ATTEMPT, '0')}", store)


def _leave_torch() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
