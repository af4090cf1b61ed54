"""Counts the rows that cannot be used, writes them to a file, and ends the import if they are too many."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from zeshel_tasks.data.zeshel import BadLines
from zeshel_tasks.errors import DataError
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import safe_text


@dataclass(frozen=True, slots=True)
class MaxSkipped:
    """How many rows may be skipped: a number, or a share of all rows."""

    number: int | None = 0
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> MaxSkipped:
        """Parses ``20`` or ``0.5%``.

        Raises:
            ValueError: the text has another form. The message is the expected form.
        """
        if re.fullmatch(r"[0-9]{1,12}", text):
            return cls(int(text))
        found = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%", text)
        if found is None or float(found[1]) > 100:
            raise ValueError("expected a number of rows, or a share of them such as 0.5%")
        return cls(None, float(found[1]) / 100)

    def __str__(self) -> str:
        return f"{self.number:,}" if self.number is not None else f"{100 * self.share:.8g}%"


def refuse(error: DataError) -> None:
    """Ends the reading of a file at its first bad row (:data:`~zeshel_tasks.data.json_lines.BadLine`)."""
    raise error


class BadRows:
    """Receives the error of each row that cannot be used (:data:`~zeshel_tasks.data.json_lines.BadLine`).

    The first few are logged. All are written to a file, one JSON object on each line with ``file``, ``line``,
    ``field``, ``problem``, ``expected`` and ``got``.

    Args:
        most: how many may be skipped.
        file: where to write them.
    """

    def __init__(self, most: MaxSkipped, file: Path) -> None:
        self._most, self._seen = most, BadLines("skipped")
        self._file = file.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """The number of skipped rows."""
        return self._seen.count

    def __call__(self, error: DataError) -> None:
        """Counts and writes a row.

        Raises:
            DataError: no row may be skipped, or this is one too many.
        """
        if self._most.number == 0:
            raise error
        self._seen(error)
        self._file.write(to_json(_fields(error)) + "\n")
        if self._most.number is not None and self.count > self._most.number:
            raise self._too_many(f"{self.count:,}")

    def check_share(self, used: int) -> None:
        """Checks the share of skipped rows, after all rows were read.

        Args:
            used: number of other rows.

        Raises:
            DataError: too many rows were skipped.
        """
        self._file.flush()
        rows = used + self.count
        if self._most.number is None and self.count > self._most.share * rows:
            raise self._too_many(f"{self.count:,} of {rows:,}, {self.count / rows:.2%}")

    def _too_many(self, got: str) -> DataError:
        expected = f"at most {self._most} (--max-skipped)"
        return DataError(
            f"too many rows that cannot be used, the first: {self._seen.first}", expected=expected, got=got
        )


def _fields(error: DataError) -> dict[str, object]:
    return {
        "file": error.file,
        "line": error.line,
        "field": error.field,
        "problem": error.problem,
        "expected": None if error.expected is None else safe_text(error.expected),
        "got": None if error.got is ... else safe_text(error.got),
    }
