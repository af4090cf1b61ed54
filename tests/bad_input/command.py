"""Runs the command line and returns what a user sees: an exit code and lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest

from zeshel_tasks.cli import main


class Ended(NamedTuple):
    """How a command ended: its exit code, the messages of its ERROR lines, and all printed lines."""

    code: int
    errors: list[str]
    lines: list[str]


def run(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> Ended:
    """Runs ``zeshel`` in this process. For any input, it must print bounded printable lines and no traceback."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.split("\n")[:-1]
    for line in lines:
        assert line.isprintable(), ascii(line)
        assert len(line) < 5000, line[:5000]
        assert not line.startswith("ERROR: Traceback"), line
    return Ended(code, [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")], lines)


def assert_refused(ended: Ended, code: int, *words: str) -> None:
    """Checks the exit code, and that the only error line contains all of these words."""
    assert ended.code == code, ended
    assert len(ended.errors) == 1, ended.errors
    for word in words:
        assert word in ended.errors[0], ended.errors[0]
