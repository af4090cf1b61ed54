import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zeshel_tasks.download.deadline import Deadline
from zeshel_tasks.download.transfer import Body, Fetched, Interrupted, Retry, retrying, transfer
from zeshel_tasks.errors import DataError, StoreUnavailable

LATER = Deadline(3600, "max_download_minutes")
AT_ONCE = Retry(tries=3, first_wait=0.0)


class ScriptedSource:
    """Returns one scripted (total, chunks) at each call of ``open``."""

    name = "the file"

    def __init__(self, *bodies: tuple[int | None, list[bytes]]) -> None:
        self.bodies = list(bodies)
        self.starts: list[int] = []

    @contextmanager
    def open(self, start: int) -> Iterator[Body]:
        self.starts.append(start)
        total, chunks = self.bodies.pop(0)
        yield Body(start, total, iter(chunks))

    def identity(self) -> str:
        return "scripted"


def test_body_that_ends_early_is_resumed(tmp_path: Path) -> None:
    source = ScriptedSource((6, [b"ab", b"c"]), (6, [b"def"]))
    fetched = transfer(source, tmp_path / "file", 100, AT_ONCE, LATER)
    assert fetched == Fetched(6, hashlib.sha256(b"abcdef").hexdigest())
    assert (tmp_path / "file").read_bytes() == b"abcdef"
    assert source.starts == [0, 3]


def test_body_longer_than_announced_is_refused(tmp_path: Path) -> None:
    source = ScriptedSource((2, [b"abc"]), (2, []), (2, []))
    with pytest.raises(StoreUnavailable, match="3 of 2 bytes"):
        transfer(source, tmp_path / "file", 100, AT_ONCE, LATER)


def test_limit_is_checked_per_chunk_if_size_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the file: too large"):
        transfer(ScriptedSource((None, [b"x" * 60, b"x" * 60])), tmp_path / "file", 100, AT_ONCE, LATER)
    assert (tmp_path / "file").stat().st_size == 60


def test_waits_double_and_respect_retry_after(caplog: pytest.LogCaptureFixture) -> None:
    wishes: list[float | None] = [None, None, 0.02]

    def fail() -> None:
        raise Interrupted("busy", wishes.pop(0) if wishes else None)

    with pytest.raises(StoreUnavailable, match="it: gave up after 4 tries; the last: busy"):
        retrying(fail, "it", Retry(tries=4, first_wait=0.001))
    assert [record.args[-1] for record in caplog.records if isinstance(record.args, tuple)] == [0.001, 0.002, 0.02]


def test_other_errors_are_not_retried() -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        retrying(fail, "it", AT_ONCE)
    assert calls == [1]
