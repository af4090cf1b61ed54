"""Links the lines of a file, many mentions at once, in bounded memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import IO

from zeshel_tasks.data.json_lines import MAX_LINE_BYTES
from zeshel_tasks.errors import DataError
from zeshel_tasks.link_files.answers import Answers
from zeshel_tasks.link_files.counts import LinkedCounts
from zeshel_tasks.link_files.lines import InputLine, LineReader, all_mentions
from zeshel_tasks.linking.linker import MENTIONS_AT_ONCE, Linker

_LINES_AT_ONCE = 4096
_CHARACTERS_AT_ONCE = 32 * 2**20


def linked_lines(
    stream: IO[bytes], reader: LineReader, linker: Linker, answers: Answers, counts: LinkedCounts
) -> Iterator[bytes]:
    """Yields an output line for each line of a file.

    Args:
        stream: the file.
        reader: reads its lines.
        linker: links their mentions.
        answers: writes the answers.
        counts: counts what is linked.

    Raises:
        DataError: see :class:`~zeshel_tasks.link_files.lines.LineReader`; or a line is too long.
    """
    for group in _groups(reader.read(raw, number) for number, raw in _numbered(stream, reader.file)):
        found = linker.link(all_mentions(group))
        for line in group:
            links = [answers.of(given, next(found)) for given in line.mentions]
            counts.add(links)
            yield answers.line(line, links)


def _numbered(stream: IO[bytes], file: str) -> Iterator[tuple[int, bytes]]:
    for number, raw in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), start=1):
        if number == 1 and raw.startswith(codecs.BOM_UTF8):
            raise DataError("byte order mark", file=file, line=1, expected="plain UTF-8", got=repr(raw[:3]))
        if len(raw) > MAX_LINE_BYTES:
            raise DataError("line too long", file=file, line=number, expected=f"at most {MAX_LINE_BYTES:,} bytes")
        yield number, raw


def _groups(lines: Iterable[InputLine]) -> Iterator[list[InputLine]]:
    """Groups of lines that are in memory together. They depend only on the lines, so that all scores do."""
    group: list[InputLine] = []
    mentions = characters = 0
    for line in lines:
        group.append(line)
        mentions, characters = mentions + len(line.mentions), characters + len(line.written)
        if mentions >= MENTIONS_AT_ONCE or len(group) >= _LINES_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
            yield group
            group, mentions, characters = [], 0, 0
    if group:
        yield group
