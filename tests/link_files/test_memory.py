"""Lines are linked in bounded memory, however many there are."""

from __future__ import annotations

import io
import resource
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.fork_server import fork_server
from tests.support.rounds import NIGHTLY
from zeshel_tasks.link_files.answers import Answers
from zeshel_tasks.link_files.batches import LinkedCounts, linked_lines
from zeshel_tasks.link_files.lines import LineReader
from zeshel_tasks.linking.linker import Linker

LINE = b'{"id": "x", "text": "' + b"The ferry left the town. " * 60 + b'The [[Vask]] stayed."}\n'
SIZE = 300_000_000


class Lines(io.RawIOBase):
    """A file of 300 MB that is nowhere."""

    left = SIZE // len(LINE) * len(LINE)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        done = SIZE // len(LINE) * len(LINE) - self.left
        size = min(len(buffer), self.left)
        shifted = done % len(LINE)
        buffer[:size] = (LINE * (size // len(LINE) + 2))[shifted : shifted + size]
        self.left -= size
        return size


class FakeLinker:
    """Links nothing."""

    def link(self, mentions: Sequence[Any]) -> Iterator[None]:
        return iter([None] * len(mentions))


def link(result: Connection) -> None:
    reader = LineReader("in.jsonl", 128, "code_points", tokenized=False, find_page={}.get)
    answers = SimpleNamespace(
        of=lambda *_: {"nil": True, "probability": None}, line=lambda line, links: line.written.encode()
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts, written = LinkedCounts(), 0
    with io.BufferedReader(Lines()) as stream:
        for line in linked_lines(stream, reader, cast(Linker, FakeLinker()), cast(Answers, answers), counts):
            written += len(line)
    result.send((counts.mentions, written, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


@pytest.mark.timeout(3600)
@pytest.mark.skipif(not NIGHTLY, reason="takes minutes")
def test_file_of_300_mb_is_linked_in_bounded_memory() -> None:
    ours, theirs = fork_server().Pipe(duplex=False)
    process = fork_server().Process(target=link, args=(theirs,))
    process.start()
    theirs.close()  # or this process would wait for one that has died
    mentions, written, before, peak = ours.recv()
    process.join()
    print(f"{mentions:,} mentions; {before / 1000:,.0f} MB of memory before, {peak / 1000:,.0f} MB at most")
    assert mentions == SIZE // len(LINE)
    assert written > 0.99 * SIZE
    assert peak < 1_000_000
    assert peak - before < 300_000
