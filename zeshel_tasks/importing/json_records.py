"""Reads JSON objects one at a time: one on each line, or the items of one array, which may be on a single line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from zeshel_tasks.data.json_lines import BadLine, Record, parse_object
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import MAX_LINE_BYTES, Input, lines, opened, without_mark

_STRUCTURE = re.compile(rb'["\\{}\[\],]')
_OPENING, _CLOSING = (b"{", b"["), (b"}", b"]")
_BLOCK = 2**16


def json_records(file: Input, on_bad: BadLine) -> Iterator[Record]:
    """Yields the objects of a file with one on each line or, if it starts with ``[``, of an array.

    Messages name an item of an array by its position, from 0, because many exports are a single line.

    Args:
        file: what to read.
        on_bad: receives the error of each line or item that is not a JSON object. It is skipped.

    Raises:
        DataError: the file is empty or damaged, or the array does not end.
    """
    with opened(file) as stream:
        head = without_mark(stream.read(_BLOCK), file)
    if head.lstrip().startswith(b"["):
        found = ((f"{file.name}[{index}]", line, raw) for index, (line, raw) in enumerate(_items(file)))
    else:
        found = ((file.name, line, raw) for line, raw in lines(file, on_bad))
    for name, line, raw in found:
        try:
            record = Record(parse_object(raw, name, line), name, line)
        except DataError as error:
            on_bad(error)
            continue
        yield record


def _items(file: Input) -> Iterator[tuple[int, bytes]]:
    """Yields the line where each item of an array begins, and the item, without parsing it."""
    with opened(file) as stream:
        head = without_mark(stream.read(_BLOCK), file)
        start = head.index(b"[") + 1
        buffer, line = bytearray(head[start:]), 1 + head.count(b"\n", 0, start)
        position, depth, in_string = 0, 0, False
        while True:
            found = _STRUCTURE.search(buffer, position)
            if found is None:
                position = max(position, len(buffer))
                _read_on(stream, buffer, file, line)
                continue
            character, position = found[0], found.end()
            if character == b"\\":
                position += 1
            elif character == b'"':
                in_string = not in_string
            elif in_string or (character == b"," and depth):
                continue
            elif character in _OPENING:
                depth += 1
            elif character in _CLOSING and depth:
                depth -= 1
            else:
                item = bytes(buffer[: position - 1])
                del buffer[:position]
                position = 0
                if item.strip():
                    yield line + item.count(b"\n", 0, len(item) - len(item.lstrip())), item.strip()
                line += item.count(b"\n")
                if character != b",":
                    return


def _read_on(stream: IO[bytes], buffer: bytearray, file: Input, line: int) -> None:
    if len(buffer) > MAX_LINE_BYTES:
        raise DataError("item too long", file=file.name, line=line, expected=f"at most {MAX_LINE_BYTES:,} bytes")
    block = stream.read(_BLOCK)
    if not block:
        raise DataError("cut", file=file.name, line=line, expected="']' at the end of the array")
    buffer += block
