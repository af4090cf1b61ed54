"""JSON-lines files.

:func:`read_records` reads the user's files and trusts nothing. Every problem is a DataError with its place in the file.
:func:`write_json_lines` and :func:`read_json_lines` are for files that stages write for later stages.
"""

from __future__ import annotations

import codecs
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zeshel_tasks.errors import DataError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import has_control_characters

# Far more than any page of a known data set. Without a bound, a file without line ends would fill the memory.
MAX_LINE_BYTES = 256 * 2**20

BadLine = Callable[[DataError], None]


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a file: a JSON object and its position.

    Attributes:
        values: the object.
        file: name of the file in messages.
        line: number of the line, from 1.
        within: the field that has the object, such as ``spans[2]``; empty for the object of the line.
    """

    values: dict[str, Any]
    file: str
    line: int
    within: str = ""

    def text(self, field: str) -> str:
        """A string that UTF-8 can encode.

        Raises:
            DataError: the field is missing or has another value.
        """
        value = self._value(field, "a string")
        if not isinstance(value, str):
            raise self.error("wrong type", field=field, expected="a string", got=value)
        if not value.isascii() and not _fits_utf8(value):
            raise self.error("half of a surrogate pair", field=field, expected="valid Unicode", got=ascii(value))
        return value

    def name(self, field: str) -> str:
        """A non-empty string.

        Raises:
            DataError: the field is missing, empty or not a string.
        """
        value = self.text(field)
        if not value:
            raise self.error("empty", field=field, expected="a non-empty string", got="''")
        return value

    def plain_name(self, field: str) -> str:
        """A non-empty string without control characters and line ends.

        Raises:
            DataError: the field is missing or has another value.
        """
        value = self.name(field)
        if has_control_characters(value):
            raise self.error("control character", field=field, expected="none in a name", got=value)
        return value

    def optional_name(self, field: str) -> str | None:
        """A non-empty string, or None if the field is missing, null or empty.

        Raises:
            DataError: the field is not a string.
        """
        return None if self.values.get(field) is None else self.text(field) or None

    def names(self, field: str) -> tuple[str, ...]:
        """Non-empty strings: those of a list, or a single one; none if the field is missing or null.

        Raises:
            DataError: the field is neither a string nor a list, or an item is not a string.
        """
        values = self.values.get(field)
        if values is None:
            return ()
        if isinstance(values, str):
            return tuple(filter(None, [self.text(field)]))
        if not isinstance(values, list):
            raise self.error("wrong type", field=field, expected="a list of strings", got=values)
        items = Record({f"{field}[{number}]": value for number, value in enumerate(values)}, self.file, self.line)
        return tuple(filter(None, map(items.text, items.values)))

    def index(self, field: str) -> int:
        """A non-negative integer.

        Raises:
            DataError: the field is missing, negative or not an integer (such as ``true`` or ``1.0``).
        """
        value = self._value(field, "an integer")
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error("wrong type", field=field, expected="an integer", got=value)
        if value < 0:
            raise self.error("negative index", field=field, expected="0 or more", got=value)
        return value

    def error(self, problem: str, *, field: str | None = None, expected: object = None, got: object = ...) -> DataError:
        """Returns an error about this line."""
        field = f"{self.within}.{field}" if self.within and field is not None else field
        return DataError(problem, file=self.file, line=self.line, field=field, expected=expected, got=got)

    def _value(self, field: str, expected: str) -> Any:
        if field not in self.values:
            raise self.error("missing field", field=field, expected=expected, got=f"fields {', '.join(self.values)}")
        return self.values[field]


def read_records(path: Path, file: str, on_bad_line: BadLine | None = None) -> Iterator[Record]:
    """Yields the objects of a file, one at a time.

    Args:
        path: where the file is.
        file: its name in messages, as the user knows it (``mentions/train.json``).
        on_bad_line: receives the error of an unreadable line, which is skipped; if None, the error is raised.

    Raises:
        DataError: the file does not exist, is empty, starts with a byte order mark or has a bad line.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise DataError("no such file", file=file) from None
    with stream:
        line = 0
        for line, raw in enumerate(iter(lambda: stream.readline(MAX_LINE_BYTES + 1), b""), start=1):
            if line == 1 and raw.startswith(codecs.BOM_UTF8):
                raise DataError("byte order mark", file=file, line=1, expected="plain UTF-8", got=repr(raw[:3]))
            if len(raw) > MAX_LINE_BYTES:
                raise DataError("line too long", file=file, line=line, expected=f"at most {MAX_LINE_BYTES:,} bytes")
            try:
                record = Record(parse_object(raw, file, line), file, line)
            except DataError as error:
                if on_bad_line is None:
                    raise
                on_bad_line(error)
                continue
            yield record
        if line == 0:
            raise DataError("empty file", file=file, expected="one JSON object a line")


def write_json_lines(path: Path, objects: Iterable[dict[str, Any]]) -> Path:
    """Writes one JSON object per line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(to_json(values) + "\n" for values in objects)
    return path


def read_json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Reads a file of :func:`write_json_lines`, one object at a time. The file may be empty."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def count_lines(path: Path, file: str) -> int:
    """Returns the number of lines that :func:`read_records` finds, without parsing them.

    Raises:
        DataError: the file does not exist or is empty.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise DataError("no such file", file=file) from None
    lines, end = 0, b""
    with stream:
        while block := stream.read(1 << 20):
            lines, end = lines + block.count(b"\n"), block[-1:]
    if not end:
        raise DataError("empty file", file=file, expected="one JSON object a line")
    return lines + (end != b"\n")


def parse_object(raw: bytes, file: str, line: int, *, strict: bool = False) -> dict[str, Any]:
    """Parses a JSON object; ``file`` and ``line`` are for messages.

    Args:
        raw: the bytes.
        file, line: where they are from.
        strict: also refuse NaN and infinities, and numbers that are too large for a float.

    Raises:
        DataError: these bytes are not a JSON object in UTF-8, or it has a field twice.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte 0x{raw[error.start]:02x} at position {error.start + 1} of the line"
        raise DataError("not UTF-8", file=file, line=line, expected="UTF-8", got=got) from None
    if not text.strip():
        raise DataError("blank line", file=file, line=line, expected="a JSON object")
    try:
        value = (_STRICT if strict else _DECODER).decode(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"broken JSON: {error}", file=file, line=line, expected="a JSON object", got=text.strip()
        ) from None
    if not isinstance(value, dict):
        raise DataError("not an object", file=file, line=line, expected="a JSON object", got=value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Builds an object. Refuses a duplicate field, of which Python would keep the last value."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"field {names.most_common(1)[0][0]!r} twice")
    return values


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond the range of a float")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_object)  # json.loads would make a new one for each line
_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refused, parse_float=_finite)


def _fits_utf8(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
