"""Parses wikitext in a process of its own, which a page can end but not harm.

mwparserfromhell takes minutes and gigabytes for some pages (earwig/mwparserfromhell#286): large tables, and thousands
of braces that are never closed.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import IO, Any

from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.wiki.page import OUT_OF_MEMORY, READY, Page, Site, site_fields
from zeshel_tasks.text.json_text import to_json

PAGE_SECONDS = 10
"""CPU time, which hardly depends on what else the machine does, so that two imports leave out the same pages."""
PAGE_MEMORY_MB = 384
"""Address space of the process. Prose of 2 MiB, the longest that MediaWiki saves, takes 200 MB."""

_PATIENCE = 30.0  # times the limit of CPU time, for a process that hardly gets any
_TRIES = 2  # a process may also end for reasons outside of the page
_BLOCK = 2**20


def check_installed() -> None:
    """Checks that wikitext can be parsed.

    Raises:
        ConfigError: mwparserfromhell is not installed.
    """
    if find_spec("mwparserfromhell") is None:
        raise ConfigError("mwparserfromhell: expected this package: python -m pip install 'zeshel-tasks[small]'")


class Parser:
    """Parses pages one after the other. Use one for each thread.

    Args:
        site: the wiki.
        seconds, memory_mb: the limits for a page.
    """

    def __init__(self, site: Site, seconds: int = PAGE_SECONDS, memory_mb: int = PAGE_MEMORY_MB) -> None:
        self._seconds, self._memory_mb = seconds, memory_mb
        setup = {"site": site_fields(site), "seconds": seconds, "memory_bytes": memory_mb * 2**20}
        self._setup = to_json(setup).encode() + b"\n"
        self._child: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def parse(self, page: Page) -> dict[str, Any]:
        """Returns ``text``, ``links`` and ``dropped`` of a page as the child answers, or a ``problem``.

        Raises:
            RuntimeError: the process does not start, or :meth:`stop` was called.
        """
        for _ in range(_TRIES):
            child = self._started()
            if answer := self._answer(child, page):
                return dict[str, Any](json.loads(answer))
            self._end()
            self._check_stopped()
            if (problem := self._problem(child.returncode)) is not None:
                return {"problem": problem}
        return {"problem": "ends the parser"}

    def stop(self) -> None:
        """Ends the process, also while another thread waits for it."""
        self._is_stopped = True
        child = self._child  # the other thread may take it away
        if child is not None:
            child.kill()

    def close(self) -> None:
        """Ends the process."""
        self._end()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            command = [sys.executable, "-m", "zeshel_tasks.importing.wiki.child"]
            # In a session of its own, so that Ctrl-C does not end it and blame a page.
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
            )
            assert self._child.stdin is not None
            assert self._child.stdout is not None
            self._child.stdin.write(self._setup)
            self._child.stdin.flush()
            if _line(self._child.stdout, self._seconds * _PATIENCE) != READY:
                self._end()
                raise RuntimeError("the process that parses wikitext does not start")
        self._check_stopped()
        return self._child

    def _answer(self, child: subprocess.Popen[bytes], page: Page) -> bytes:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(to_json({"title": page.title, "text": page.text}).encode() + b"\n")
            child.stdin.flush()
        except BrokenPipeError:
            return b""
        return _line(child.stdout, self._seconds * _PATIENCE)

    def _check_stopped(self) -> None:
        if self._is_stopped:
            raise RuntimeError("the import was stopped")

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            with suppress(BrokenPipeError), self._child:  # waits, and closes the pipes; a page may be unread in one
                pass
            self._child = None

    def _problem(self, code: int) -> str | None:
        if code == OUT_OF_MEMORY:
            return f"needs more than {self._memory_mb} MB"
        if code == -signal.SIGXCPU:
            return f"needs more than {self._seconds} s"
        return None


def _line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line; nothing if the process ends or takes too long."""
    end, parts = time.monotonic() + seconds, list[bytes]()
    while not parts or not parts[-1].endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(end - time.monotonic(), 0))
        block = stream.read1(_BLOCK) if ready else b""  # type: ignore[attr-defined]
        if not block:
            return b""
        parts.append(block)
    return b"".join(parts)
