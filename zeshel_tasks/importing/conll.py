"""AIDA-CoNLL-YAGO: a token on each line, with tabs between it and what is known of its mention."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from zeshel_tasks.config.splits import Split
from zeshel_tasks.data.json_lines import Record
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.annotated import AnnotatedText, Annotation, Label, NoLabel, Reading
from zeshel_tasks.importing.inputs import Input, text_lines
from zeshel_tasks.importing.nil import is_nil

_TITLE = 3
_COLUMNS = {"title": _TITLE, "url": 4, "wikipedia_id": 5, "freebase": 6}
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def aida_texts(file: Input, reading: Reading) -> Iterator[AnnotatedText]:
    """Yields the documents of a file. A line of its own, ``-DOCSTART- (1 EU)``, begins each one."""
    document: _Document | None = None
    for number, line in text_lines(file, reading.on_bad):
        if line.startswith("-DOCSTART-"):
            yield from _finished(document)
            name = line.removeprefix("-DOCSTART-").strip().removeprefix("(").removesuffix(")")
            document = _Document(name or f"{file.stem}-{number}", Record({}, file.name, number))
        else:
            document = document or _Document(f"{file.stem}-1", Record({}, file.name, 1))
            try:
                document.add(line, Record({}, file.name, number), reading.gold)
            except DataError as error:
                reading.on_bad(error)
    yield from _finished(document)


@dataclass
class _Document:
    """A document as far as it was read: its tokens so far, and the mentions among them."""

    name: str
    record: Record
    parts: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    size: int = 0
    is_inside: bool = False

    def add(self, line: str, place: Record, gold: str) -> None:
        """Adds a line: a token, or an empty one at the end of a sentence."""
        columns = line.split("\t")
        tag = columns[1] if len(columns) > 1 else ""
        if not line.strip():
            self.is_inside = False
            self._append("\n" if self.parts else "")
            return
        if tag not in ("", "B", "I"):
            raise place.error("unknown tag", field="column 2", expected="B, I or nothing", got=tag)
        start = self._append_token(columns[0])
        if tag == "I" and self.is_inside:
            self.annotations[-1] = replace(self.annotations[-1], end=self.size)
            return
        self.is_inside = False
        if tag == "I":
            raise place.error("a mention does not begin", field="column 2", expected="B before I", got=line)
        if tag == "B":
            annotation = Annotation(
                start,
                self.size,
                _label(columns, gold),
                f"column {_COLUMNS[gold] + 1}",
                place,
                split=_split(self.name),
            )
            self.annotations.append(annotation)
            self.is_inside = True

    def _append_token(self, token: str) -> int:
        self._append(" " if self.parts and self.parts[-1] != "\n" else "")
        start = self.size
        self._append(token)
        return start

    def _append(self, part: str) -> None:
        if part:
            self.parts.append(part)
            self.size += len(part)


def _finished(document: _Document | None) -> Iterator[AnnotatedText]:
    if document is not None and document.parts:
        yield AnnotatedText(document.record, document.name, "".join(document.parts), tuple(document.annotations))


def _label(columns: list[str], gold: str) -> Label:
    if len(columns) > _TITLE and is_nil(columns[_TITLE]):
        return None
    number = _COLUMNS[gold]
    if len(columns) <= number or not columns[number]:
        return NoLabel.MISSING
    label = columns[number]
    if gold == "title":
        label = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), label).replace("_", " ")
    return label


def _split(name: str) -> Split | None:
    """The split that a document's name tells, as in ``947testa CRICKET``: testa is valid."""
    found = re.match(r"\d+(testa|testb)\b", name)
    if found is None:
        return "train" if re.match(r"\d+ ", name) else None
    return "valid" if found[1] == "testa" else "test"
