"""Logs and output where nobody reads them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TextIO

import pytest

from zeshel_tasks import cli
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK, EXIT_TRY_AGAIN
from zeshel_tasks.text.logs import name_process, set_up_logs

WRONG_STORE = "ERROR: --store: expected a store with runs/ or artifacts/, got"


def full_disk() -> TextIO:
    """Returns a stream that keeps nothing that it cannot write."""
    return TextIOWrapper(Path("/dev/full").open("wb", buffering=0), write_through=True)


@contextmanager
def closed_pipe() -> Iterator[IO[str]]:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as pipe:
        yield pipe


@pytest.mark.parametrize(("redirection", "words"), [(">&-", WRONG_STORE), ("<&- >&- 2>&-", "")])
def test_command_with_closed_streams_ends_as_usual(tmp_path: Path, redirection: str, words: str) -> None:
    command = f'exec "$0" -m zeshel_tasks gc --store "$1" --older-than 30d {redirection}'
    ended = subprocess.run(
        ["sh", "-c", command, sys.executable, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == EXIT_CONFIG
    assert (ended.stdout, ended.stderr) == ("", f"{words} {str(tmp_path)!r}\n" if words else "")


def test_command_whose_reader_has_gone_says_nothing() -> None:
    with closed_pipe() as pipe:
        command = [sys.executable, "-m", "zeshel_tasks", "--help"]
        ended = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (EXIT_OK, b"")


def test_work_goes_on_without_a_reader_of_its_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with closed_pipe() as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        set_up_logs()
        for _ in range(3):
            logging.getLogger("zeshel_tasks").info("a line")
    assert capsys.readouterr().err == ""


def test_lines_of_one_process_of_several_name_it(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logs()
    name_process("rank 1 of 2", progress=False)
    logging.getLogger("zeshel_tasks.compute.progress").info("step 1/2")
    logging.getLogger("zeshel_tasks.training").warning("a line\nand another")
    name_process("rank 0 of 2", progress=True)
    logging.getLogger("zeshel_tasks.compute.progress").info("step 2/2")
    set_up_logs()
    logging.getLogger("zeshel_tasks").info("alone")
    assert capsys.readouterr().out.splitlines() == [
        "WARNING: [rank 1 of 2] a line",
        "WARNING: [rank 1 of 2] and another",
        "INFO: [rank 0 of 2] step 2/2",
        "INFO: alone",
    ]


def test_log_without_room_goes_to_stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with full_disk() as full:
        monkeypatch.setattr("sys.stdout", full)
        set_up_logs()
        logging.getLogger("zeshel_tasks").error("a line")
        with pytest.raises(OSError, match="No space left"):  # what the command prints later is not lost silently
            print("a result", flush=True)
    assert capsys.readouterr().err == "ERROR: a line\n"


def test_work_goes_on_without_room_for_any_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk() as output, full_disk() as errors:
        monkeypatch.setattr("sys.stdout", output)
        monkeypatch.setattr("sys.stderr", errors)
        set_up_logs()
        logging.getLogger("zeshel_tasks").error("a line")


def test_full_disk_under_the_output_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_parser", lambda: _Command(lambda: print("x" * 100_000)))
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert cli.main([]) == EXIT_TRY_AGAIN


def test_broken_pipe_of_something_else_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one between processes of a training."""

    def crash() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "_parser", lambda: _Command(crash))
    with Path(os.devnull).open("w") as output:
        monkeypatch.setattr("sys.stdout", output)
        with pytest.raises(BrokenPipeError):
            cli.main([])


class _Command:
    """A parser of command lines that always finds one command."""

    def __init__(self, run: Callable[[], object]) -> None:
        self.run = run

    def parse_args(self, _: list[str]) -> _Command:
        return self

    def command(self, _: object) -> None:
        self.run()
