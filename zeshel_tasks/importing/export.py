"""Exports the texts and mentions of a data set as plain JSON lines, from which the same data set is imported again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from zeshel_tasks.compute.temporary import temporary_file
from zeshel_tasks.compute.termination import removed_on_sigterm, scratch_folder
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.data.raw_text import TokenSpan, character_spans
from zeshel_tasks.data.zeshel import MENTION_FILES
from zeshel_tasks.download.sources import check_finished
from zeshel_tasks.errors import ConfigError, DataError
from zeshel_tasks.importing.bad_rows import refuse
from zeshel_tasks.importing.inputs import Input, fetched_files
from zeshel_tasks.importing.json_records import json_records
from zeshel_tasks.importing.mention_files import NIL
from zeshel_tasks.importing.seen_ids import database
from zeshel_tasks.location import located, store_location
from zeshel_tasks.text.json_text import to_json


def export_mentions(data: str, out: Path) -> int:
    """Writes ``{"id", "world", "text", "spans"}`` of each text in ``contexts/`` into a file.

    Offsets are in code points of the original text. A mention without an entity has ``"entity": null``.

    Returns:
        The number of texts.

    Raises:
        ConfigError: the data set has no ``contexts/``, or ``out`` exists.
        DataError: a file of the data set is broken, or a mention is not in a text of ``contexts/``.
        TryAgain: an import is writing the data set.
    """
    location = located("DATA", data, store_location)
    if out.exists():
        raise ConfigError(f"--out: expected a new file, got {out}")
    check_finished(location)
    with scratch_folder() as scratch, closing(_Mentions(scratch / "mentions.sqlite")) as mentions:
        contexts = fetched_files(location, "contexts", scratch / "contexts")
        if not contexts:
            raise ConfigError(f"DATA: expected a data set with contexts/, as of import-mentions, got {location.name}")
        for folder in ("mentions", NIL):
            files = fetched_files(location, folder, scratch / folder)
            for split, name in MENTION_FILES.items():
                if file := files.get(name.removesuffix(".json")):
                    mentions.add(file, split)
        with temporary_file(out) as part, removed_on_sigterm(part):
            count = _write(contexts, mentions, part)
            part.replace(out)
    return count


class _Mentions:
    """The mentions of all splits, on disk."""

    def __init__(self, path: Path) -> None:
        self._database = database(path)
        self._database.execute(
            "CREATE TABLE mentions (number INTEGER PRIMARY KEY, world TEXT, text TEXT, id TEXT, split TEXT, gold TEXT, "
            "first INT, last INT)"
        )
        self._database.execute("CREATE INDEX by_text ON mentions (world, text)")

    def add(self, file: Input, split: str) -> None:
        """Adds a file of mentions."""
        for record in json_records(file, refuse):
            gold = record.optional_name("label_document_id")
            names = (record.name(name) for name in ("corpus", "context_document_id", "mention_id"))
            row = (*names, split, gold, record.index("start_index"), record.index("end_index"))
            self._database.execute("INSERT INTO mentions VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)

    def of_text(self, world: str, text: str) -> list[tuple[str, str, str | None, TokenSpan]]:
        """Returns id, split, entity and span of each mention of a text."""
        query = "SELECT id, split, gold, first, last FROM mentions WHERE world = ? AND text = ? ORDER BY number"
        return [(*row[:3], TokenSpan(*row[3:])) for row in self._database.execute(query, (world, text))]

    def count(self) -> int:
        """Returns the number of mentions."""
        return int(self._database.execute("SELECT count(*) FROM mentions").fetchone()[0])

    def close(self) -> None:
        """Closes the database."""
        self._database.close()


def _write(contexts: dict[str, Input], mentions: _Mentions, out: Path) -> int:
    texts = spans = 0
    with out.open("w", encoding="utf-8") as file:
        for world, context in contexts.items():
            for record in json_records(context, refuse):
                line = _line(world, record, mentions)
                file.write(to_json(line, ensure_ascii=False) + "\n")
                texts, spans = texts + 1, spans + len(line["spans"])
    if spans < mentions.count():
        expected = "mentions in texts of contexts/ only"
        raise DataError("mentions in other texts", file="mentions", expected=expected, got=mentions.count() - spans)
    return texts


def _line(world: str, record: Record, mentions: _Mentions) -> dict[str, Any]:
    text, document_id = record.text("text"), record.name("document_id")
    original = record.text("original") if "original" in record.values else text
    found = mentions.of_text(world, document_id)
    try:
        places = character_spans(original, text, (span for *_, span in found))
    except ValueError as error:
        raise record.error(f"not the tokens of its original: {error}", field="text") from None
    spans = [
        {"id": mention_id, "start": place.start, "end": place.end, "entity": gold, "split": split}
        for (mention_id, split, gold, _), place in zip(found, places, strict=True)
    ]
    return {"id": document_id, "world": world, "text": original, "spans": spans}
