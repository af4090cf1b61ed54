"""Parses the pages of a dump with several processes, and keeps the results in files that another attempt reuses.

A file has the pages whose ids are in the same range, and is named by a hash of their wikitext. So it is reused if the
import was killed, and in the import of a later dump if none of these pages has changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from zeshel_tasks import RESULTS_VERSION
from zeshel_tasks.importing.wiki.kept_pages import KeptPages
from zeshel_tasks.importing.wiki.page import Page, Site, site_fields
from zeshel_tasks.importing.wiki.parser import PAGE_MEMORY_MB, PAGE_SECONDS, Parser
from zeshel_tasks.text.json_text import to_json

_IDS = 200
_CHARACTERS = 4 * 2**20


class PageParser:
    """Parses the pages of a wiki.

    Args:
        site: the wiki.
        folder: where the files go.
        processes: how many parse at the same time.
        kept: further files, which outlive the folder.
    """

    def __init__(self, site: Site, folder: Path, processes: int, kept: KeptPages | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._processes, self._kept = folder, processes, kept
        limits = (RESULTS_VERSION, version("mwparserfromhell"), PAGE_SECONDS, PAGE_MEMORY_MB)
        self._key = to_json([*limits, site_fields(site)])
        self._parsers = [Parser(site) for _ in range(processes)]
        self._free = SimpleQueue[Parser]()
        for parser in self._parsers:
            self._free.put(parser)

    def parsed(self, pages: Iterable[Page]) -> Iterator[Path]:
        """Yields the file of each range of pages, in order."""
        waiting = deque[Future[Path]]()
        with self._threads() as threads:
            for chunk in _chunks(pages):
                waiting.append(threads.submit(self._file, chunk))
                if len(waiting) > self._processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        threads = ThreadPoolExecutor(self._processes)
        try:
            yield threads
        except BaseException:
            for parser in self._parsers:  # their threads wait for them
                parser.stop()
            raise
        finally:
            threads.shutdown(cancel_futures=True)
            for parser in self._parsers:
                parser.close()

    def _file(self, chunk: list[Page]) -> Path:
        digest = hashlib.sha256(self._key.encode())
        for page in chunk:
            digest.update(to_json(astuple(page)).encode())
        path = self._folder / f"{digest.hexdigest()}.jsonl"
        if path.exists() or (self._kept is not None and self._kept.fetch(digest.hexdigest(), path)):
            return path
        part = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # another one may parse the same pages
        parser = self._free.get()
        try:
            with part.open("w", encoding="utf-8") as file:
                file.writelines(to_json(_line(page, parser)) + "\n" for page in chunk)
        finally:
            self._free.put(parser)
        part.rename(path)
        if self._kept is not None:
            self._kept.keep(digest.hexdigest(), path)
        return path


def read_chunk(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the pages of a file: ``id``, ``title``, and ``redirect``, or ``problem``, or what the parser answers."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _line(page: Page, parser: Parser) -> dict[str, Any]:
    known = {"id": page.page_id, "title": page.title}
    if page.problem:
        return known | {"problem": page.problem}
    if page.redirect is not None:
        return known | {"redirect": page.redirect}
    return known | parser.parse(page)


def _chunks(pages: Iterable[Page]) -> Iterator[list[Page]]:
    chunk, characters, last = list[Page](), 0, -1
    for page in pages:
        place = int(page.page_id) // _IDS if page.page_id.isdecimal() else last
        if chunk and (place != last or characters > _CHARACTERS or len(chunk) >= _IDS):
            yield chunk
            chunk, characters = [], 0
        chunk.append(page)
        characters += len(page.text)
        last = place
    if chunk:
        yield chunk
