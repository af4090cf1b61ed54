"""Writes the files of a data set: mentions, the texts that they are in, and the entities of each world.

No world may have mentions in two of train, valid and test. If the mentions of a world are to be in several, its
entities become several worlds: ``towns`` for train, ``towns-valid`` and ``towns-test``.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.splits import SPLITS, Split
from zeshel_tasks.data.mention_category import mention_category
from zeshel_tasks.data.raw_text import Span, TokenSpan, tokenized
from zeshel_tasks.data.zeshel import MENTION_FILES
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.mention_table import MentionTable
from zeshel_tasks.text.json_text import to_json

NIL = "nil"
"""Folder of the mentions without an entity, beside ``mentions``."""

_LOG_SECONDS = 15.0
_JOINED = "mentions JOIN texts ON mentions.text = texts.number"
_PART = "CASE WHEN split IN ('valid', 'test') THEN split ELSE 'train' END"
_TEXTS = (
    f"SELECT number, id, text FROM texts WHERE world = ? AND (number IN (SELECT text FROM mentions WHERE {_PART} = ?) "
    "OR (? AND number NOT IN (SELECT text FROM mentions))) ORDER BY number"
)
_MENTIONS = f'SELECT id, split, gold, title, start, "end" FROM mentions WHERE text = ? AND {_PART} = ? ORDER BY number'
_Mention = tuple[str, Split, str | None, str, int, int]


def write_mention_files(
    table: MentionTable, documents: Mapping[str, Input], out: Path, *, with_contexts: bool = True
) -> tuple[dict[Split, int], int]:
    """Writes the files into the new folder ``out``. Logs how far it is.

    Args:
        table: the mentions, each with a split.
        documents: the entities of each world.
        out: where to write.
        with_contexts: False if the texts are those of the entities, as tokens.

    Returns:
        The number of mentions with an entity by split, and the number of those without.

    Raises:
        ConfigError: two worlds would have the same name.
    """
    out.mkdir()
    names = _names(table, documents)
    _write_documents(names, documents, out)
    counts = Counter[Split]()
    nil = 0
    (texts,) = next(table.rows("SELECT count(*) FROM texts"))
    progress = Progress("texts", max(texts, 1), "texts", _LOG_SECONDS)
    with ExitStack() as opened:
        files = _Files(out, opened)
        for (world, part), name in names.items():
            for number, document_id, content in table.rows(_TEXTS, world, part, name == world):
                progress.update()
                mentions: list[_Mention] = list(table.rows(_MENTIONS, number, part))
                text = content.decode()
                tokens, places = tokenized(text, (Span(start, end) for *_, start, end in mentions))
                if with_contexts:
                    original = {} if tokens == text else {"original": text}
                    files.write(f"contexts/{name}.json", {"document_id": document_id, "text": tokens} | original)
                for split, gold in _write_mentions(
                    name, document_id, tokens, zip(mentions, places, strict=True), files
                ):
                    counts[split] += gold is not None
                    nil += gold is None
    return {split: counts[split] for split in MENTION_FILES if counts[split]}, nil


class _Files:
    """The files of a data set that are written at the same time. Each one is made by its first line."""

    def __init__(self, out: Path, opened: ExitStack) -> None:
        self._out, self._opened, self._files = out, opened, dict[str, IO[bytes]]()

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Appends a line to a file."""
        if name not in self._files:
            path = self._out / name
            path.parent.mkdir(exist_ok=True)
            self._files[name] = self._opened.enter_context(path.open("wb"))
        self._files[name].write(to_json(line, ensure_ascii=False).encode() + b"\n")


def _write_mentions(
    world: str, document_id: str, tokens: str, mentions: Iterable[tuple[_Mention, TokenSpan | None]], files: _Files
) -> Iterator[tuple[Split, str | None]]:
    """Writes the mentions of a text, whose words only they cut. Yields split and entity of each one."""
    words = tokens.split(" ")
    for (mention_id, split, gold, title, *_), place in mentions:
        assert place is not None
        surface = " ".join(words[place.start : place.end + 1])
        line: dict[str, Any] = {"mention_id": mention_id, "context_document_id": document_id, "corpus": world}
        line |= {"start_index": place.start, "end_index": place.end, "text": surface, "label_document_id": gold}
        line |= {} if gold is None else {"category": mention_category(surface, tokenized(title)[0])}
        files.write(f"{NIL if gold is None else 'mentions'}/{MENTION_FILES[split]}", line)
        yield split, gold


def _names(table: MentionTable, documents: Collection[str]) -> dict[tuple[str, str], str]:
    """World and one of train, valid and test -> name of the world that has these mentions, in the order of names."""
    found = sorted(table.rows(f"SELECT DISTINCT world, {_PART} FROM {_JOINED}"), key=lambda row: SPLITS.index(row[1]))
    parts: dict[str, list[str]] = {world: [] for world in documents}
    for world, part in found:
        parts[world].append(part)
    names: dict[tuple[str, str], str] = {}
    for world, of_world in parts.items():
        for part in of_world or ["train"]:
            name = world if part == (of_world or ["train"])[0] else f"{world}-{part}"
            if name != world and name in documents:
                raise ConfigError(
                    f"--entities: expected no world {name!r}, which {world!r} needs for its {part} mentions"
                )
            names[world, part] = name
    return dict(sorted(names.items(), key=lambda item: item[1]))


def _write_documents(names: Mapping[tuple[str, str], str], documents: Mapping[str, Input], out: Path) -> None:
    (out / "documents").mkdir()
    for (world, _), name in names.items():
        shutil.copyfile(documents[world].path, out / "documents" / f"{name}.json")
