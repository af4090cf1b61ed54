"""Reads ontologies in OBO's text format (version 1.4): a stanza ``[Term]`` is an entity."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from zeshel_tasks.data.json_lines import BadLine, Record
from zeshel_tasks.importing.inputs import Input, text_lines

_STANZA = re.compile(r"\[(\w+)\]\s*(?:!.*)?")
_TAG = re.compile(r"([\w-]+):\s*(.*)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "t": "\t", "W": " "}


def obo_records(file: Input, on_bad: BadLine) -> Iterator[Record]:
    """Yields the terms that are not obsolete, with ``id``, ``title``, ``text`` (the definition), ``aliases`` (synonyms)
    and ``types`` (the namespace). A term is a record at the line of its ``[Term]``.

    Raises:
        DataError: the file is empty or damaged.
    """
    stanza, begin, tags = "", 1, defaultdict[str, list[str]](list)
    for number, line in text_lines(file, on_bad):
        if found := _STANZA.fullmatch(line.strip()):
            yield from _term(stanza, tags, file, begin)
            stanza, begin, tags = found[1], number, defaultdict(list)
        elif found := _TAG.match(line):
            tags[found[1]].append(found[2].strip())
    yield from _term(stanza, tags, file, begin)


def _term(stanza: str, tags: dict[str, list[str]], file: Input, line: int) -> Iterator[Record]:
    if stanza == "Term" and tags.get("is_obsolete", ["false"])[-1].split(" ")[0] != "true":
        texts = {name: _plain(tags[name][0]) for name in ("id", "name", "namespace") if name in tags}
        values: dict[str, object] = {"types": [texts["namespace"]] if "namespace" in texts else []}
        values |= {part: texts[name] for part, name in (("id", "id"), ("title", "name")) if name in texts}
        values |= {"text": next(iter(_quoted(tags.get("def", []))), None), "aliases": _quoted(tags.get("synonym", []))}
        yield Record(values, file.name, line)


def _quoted(values: list[str]) -> list[str]:
    return [_unescaped(found[1]) for found in map(_QUOTED.match, values) if found]


def _plain(value: str) -> str:
    """The value without the comment behind it."""
    return _unescaped(re.split(r"(?<!\\)\s!", value)[0].strip())


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), value)
