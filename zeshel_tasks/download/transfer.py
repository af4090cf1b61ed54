"""Transfers a large file in bounded memory: hashes it, limits its size, retries and resumes."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, TypeVar

from zeshel_tasks.compute.progress import ByteProgress
from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.errors import DataError, StoreUnavailable
from zeshel_tasks.text.redaction import redacted

MAX_WAIT_SECONDS = 60.0
# Progress of this many bytes resets the count of tries, so that large files arrive over bad connections.
_WORTH_MORE_TRIES = 2**20

T = TypeVar("T")
log = logging.getLogger(__name__)


class Interrupted(Exception):
    """A failure that may be temporary. The next try resumes where this one stopped.

    Args:
        problem: what happened.
        retry_after: seconds to wait, as the server asked.
    """

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        super().__init__(redacted(problem))  # libraries quote addresses
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Fetched:
    """Size in bytes and hexadecimal SHA-256 of a transferred file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Number of tries in total, and seconds to wait before the second one; each further wait doubles."""

    tries: int = 5
    first_wait: float = 1.0


@dataclass(frozen=True, slots=True)
class Body:
    """The rest of a file from byte ``start``; ``total`` is the size of the whole file, if known."""

    start: int
    total: int | None
    chunks: Iterator[bytes]


class Source(Protocol):
    """A file that can be read from a position; ``name`` is for messages."""

    name: str

    def open(self, start: int) -> AbstractContextManager[Body]:
        """Read the file from byte ``start``, or from its beginning if the source cannot resume.

        Raises:
            Interrupted: opening or reading failed, and another try may succeed.
        """

    def identity(self) -> str:
        """Content identity, without fetching the content if possible."""


def transfer(source: Source, destination: Path, max_bytes: int, retry: Retry, deadline: Deadline) -> Fetched:
    """Copy a source into a file.

    Raises:
        DataError: the file is larger than ``max_bytes``.
        StoreUnavailable: the transfer broke too often or took too long.
    """
    with destination.open("w+b") as file:
        target = _Target(file, source.name, max_bytes, deadline)
        retrying(lambda: target.fill_from(source), source.name, retry, target.got_further)
        return Fetched(target.position, target.digest.hexdigest())


def retrying(action: Callable[[], T], name: str, retry: Retry, got_further: Callable[[], bool] = lambda: False) -> T:
    """Run an action until it is not interrupted.

    Args:
        action: raises :class:`Interrupted` if another try may succeed.
        name: of the file, for messages.
        retry: how often to try.
        got_further: returns True if the last try made enough progress to reset the count.

    Raises:
        StoreUnavailable: every try was interrupted.
    """
    failures = 0
    while True:
        try:
            return action()
        except Interrupted as error:
            failures = 1 if got_further() else failures + 1
            if failures >= retry.tries:
                tries = f"gave up after {failures} tries; the last: " if failures > 1 else ""
                raise StoreUnavailable(f"{name}: {tries}{error}") from error
            wait = min(max(retry.first_wait * 2 ** (failures - 1), error.retry_after or 0), MAX_WAIT_SECONDS)
            log.warning("%s: %s; try %d of %d in %.0f s", name, error, failures + 1, retry.tries, wait)
            time.sleep(wait)


class _Target:
    """The destination file and the hash of its content."""

    def __init__(self, file: IO[bytes], name: str, max_bytes: int, deadline: Deadline) -> None:
        self._file, self._name, self._max_bytes, self._deadline = file, name, max_bytes, deadline
        self._furthest = 0
        self.position = 0
        self.digest = hashlib.sha256()
        self._progress = ByteProgress("download", None)

    def fill_from(self, source: Source) -> None:
        self._deadline.check()
        with source.open(self.position) as body:
            if body.start != self.position:
                self._start_over()
            self._check(body.total or 0)
            self._progress.total = body.total
            for chunk in body.chunks:
                self._append(chunk)
                self._deadline.check()
            self._deadline.check()  # if the size is unknown, a cut connection looks like the end of the file
            if body.total is not None and self.position != body.total:
                raise Interrupted(f"it ended after {self.position:,} of {body.total:,} bytes")

    def got_further(self) -> bool:
        further = self.position - self._furthest >= _WORTH_MORE_TRIES
        self._furthest = max(self._furthest, self.position)
        return further

    def _start_over(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.position, self.digest = 0, hashlib.sha256()

    def _append(self, chunk: bytes) -> None:
        self._check(self.position + len(chunk))
        self._file.write(chunk)
        self.digest.update(chunk)
        self.position += len(chunk)
        self._progress.update(self.position)

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            expected = f"at most {self._max_bytes:,} bytes (max_download_gb)"
            raise DataError("too large", file=self._name, expected=expected, got=f"{size:,} bytes or more")
