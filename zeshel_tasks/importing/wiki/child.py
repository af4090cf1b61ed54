"""The process that parses wikitext: reads pages from standard input and answers on standard output, JSON on each line.

It ends itself at a page that takes too much memory or time, so that a page cannot harm the import, and a process whose
parent was killed cannot run on.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import time
from typing import Any

from mwparserfromhell.parser import ParserError

from zeshel_tasks.data.raw_text import Span, tokenized
from zeshel_tasks.importing.wiki.markup import plain_text
from zeshel_tasks.importing.wiki.page import OUT_OF_MEMORY, READY, WITHOUT_TEXT, site_of
from zeshel_tasks.importing.wiki.titles import Titles
from zeshel_tasks.text.json_text import to_json

_MOST_GARBAGE = 100_000


def main() -> None:
    """Answers until standard input ends. The first line has the limits and the wiki."""
    setup = json.loads(sys.stdin.buffer.readline())
    titles = Titles(site_of(setup["site"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit(resource.RLIMIT_AS, setup["memory_bytes"])
    gc.disable()  # the trees of mwparserfromhell have no cycles, and large ones are parsed in half the time
    _answer(READY)
    try:
        for line in sys.stdin.buffer:
            # The system ends this process after that many more seconds of CPU time.
            _limit(resource.RLIMIT_CPU, int(time.process_time()) + setup["seconds"])
            _answer(to_json(_parsed(titles, **json.loads(line))).encode() + b"\n")
            if gc.get_count()[0] > _MOST_GARBAGE:
                gc.collect()
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _parsed(titles: Titles, title: str, text: str) -> dict[str, Any]:
    try:
        found = plain_text(text, titles)
    except (ParserError, RecursionError) as error:
        return {"problem": f"mwparserfromhell: {type(error).__name__}"}
    if not found.text.strip():
        return {"problem": WITHOUT_TEXT, "dropped": found.dropped}
    before = f"{title}\n"
    spans = [Span(len(before) + link.start, len(before) + link.end) for link in found.links]
    tokens, places = tokenized(before + found.text, spans)
    starts = [0]
    for token in tokens.split(" "):
        starts.append(starts[-1] + len(token) + 1)
    links = [
        (starts[place.start], starts[place.end + 1] - 1, link.namespace, link.name)
        for link, place in zip(found.links, places, strict=True)
        if place is not None
    ]
    return {"text": tokens, "links": links, "dropped": found.dropped}


def _limit(what: int, limit: int) -> None:
    _, most = resource.getrlimit(what)
    resource.setrlimit(what, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def _answer(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
