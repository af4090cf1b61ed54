"""The forms of an input line: a JSON object with the mentions of one text.

    {"text", "mentions": [{"start", "end"}]}       offsets of characters; also as "spans", as annotation tools call them
    {"text"}                                       mentions in [[double brackets]], or those that a function finds
    {"context_left", "mention", "context_right"}   BLINK's form of one mention
    {"context_document_id", "start_index", "end_index"}   ZESHEL's form: tokens of a page of the knowledge base

A text may have an ``id`` or a ``context_document_id``. If it is the page of an entity, the retriever knows it. All
fields come back as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from zeshel_tasks.config.link import Offsets
from zeshel_tasks.data.json_lines import Record, parse_object
from zeshel_tasks.data.raw_text import Span
from zeshel_tasks.data.world import Page
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.link_files.contexts import TextMention, mention_of_text, mention_of_tokens
from zeshel_tasks.link_files.marked import unmarked
from zeshel_tasks.link_files.utf16 import Utf16

ADDED = ("links", "linked_by")
"""Fields that an output line has in addition."""

LISTS = ("mentions", "spans")
"""Names of the list of a text's mentions."""

_BLINK = ("context_left", "mention", "context_right")
_ZESHEL = ("context_document_id", "start_index", "end_index")

FindPage = Callable[[str], Document | None]
"""Returns the entity with this ``document_id``."""

FindMentions = Callable[[str], Iterable[Span]]
"""Returns the mentions of a text."""


class GivenMention(NamedTuple):
    """A mention of an input line.

    Attributes:
        mention: as the linker needs it.
        text: as the line has it.
        place: start and end in the line's own text, in the line's own unit; None if the line has no text.
    """

    mention: TextMention
    text: str
    place: tuple[int, int] | None


class InputLine(NamedTuple):
    """An input line: the JSON object as it was written, and its mentions."""

    written: str
    mentions: list[GivenMention]


@dataclass(frozen=True)
class LineReader:
    """Reads input lines.

    Attributes:
        file: their file, for messages.
        context_tokens: tokens of context on each side of a mention.
        offsets: unit of the offsets.
        tokenized: True for texts that consist of ZESHEL's tokens already.
        find_page: finds the pages of mentions in ZESHEL's form.
        find_mentions: finds the mentions of a text without a list of them; None if they are in double brackets.
    """

    file: str
    context_tokens: int
    offsets: Offsets
    tokenized: bool
    find_page: FindPage
    find_mentions: FindMentions | None = None

    def read(self, raw: bytes, number: int) -> InputLine:
        """Reads the line ``number``, from 1.

        Raises:
            DataError: the line has none of the forms, or a mention is not a part of its text.
        """
        record = Record(parse_object(raw, self.file, number), self.file, number)
        for field in ADDED:
            if field in record.values:
                raise record.error("taken field", field=field, expected="none, because the output gets one")
        return InputLine(raw.decode().strip(), self.mentions(record))

    def mentions(self, record: Record) -> list[GivenMention]:
        """Returns the mentions of a line, or of another object with the same fields.

        Raises:
            DataError: see :meth:`read`.
        """
        lists = [field for field in LISTS if field in record.values]
        if "text" in record.values and lists:
            if len(lists) > 1:
                raise record.error("two lists of mentions", field=lists[1], expected=f"only one of {', '.join(LISTS)}")
            return self._of_offsets(record, lists[0])
        if all(field in record.values for field in _ZESHEL):
            return [self._of_tokens(record)]
        if "text" in record.values:
            return self._of_marks(record) if self.find_mentions is None else self._found(record, self.find_mentions)
        if any(field in record.values for field in _BLINK):
            left, mention, right = (record.text(field) for field in _BLINK)
            _check_not_blank(record, mention, "mention")
            return [GivenMention(TextMention(left, mention, right, _page(record)), mention, None)]
        expected = f"text, or {', '.join(_BLINK)}, or {', '.join(_ZESHEL)}"
        raise record.error("no text", expected=expected, got=f"fields {', '.join(record.values) or 'none'}")

    def _of_offsets(self, record: Record, field: str) -> list[GivenMention]:
        text, page, given = record.text("text"), _page(record), record.values[field]
        if not isinstance(given, list):
            raise record.error("wrong type", field=field, expected="a list of mentions", got=given)
        utf16 = Utf16(text) if self.offsets == "utf16" else None
        return [self._of_span(record, text, utf16, span, f"{field}[{at}]", page) for at, span in enumerate(given)]

    def _of_span(
        self, record: Record, text: str, utf16: Utf16 | None, span: Any, field: str, page: str
    ) -> GivenMention:
        if not isinstance(span, dict):
            raise record.error("wrong type", field=field, expected="an object with start and end", got=span)
        values = Record(span, record.file, record.line, within=field)
        place = values.index("start"), values.index("end")
        start, end = (
            _offset(values, text, utf16, name, given) for name, given in zip(("start", "end"), place, strict=True)
        )
        if start >= end:
            expected = f"more than the start, {place[0]}, because a mention has characters"
            raise values.error("empty mention", field="end", expected=expected, got=place[1])
        found, said = text[start:end], span.get("text")
        _check_not_blank(record, found, field)
        if said is not None and said != found:
            expected = f"{found!r}, characters {place[0]} to {place[1]} of the text"
            raise values.error("text differs from its offsets", field="text", expected=expected, got=said)
        return GivenMention(self._mention(text, start, end, page), found, place)

    def _found(self, record: Record, find_mentions: FindMentions) -> list[GivenMention]:
        text, page = record.text("text"), _page(record)
        utf16 = Utf16(text) if self.offsets == "utf16" else None
        return [
            GivenMention(self._mention(text, start, end, page), text[start:end], _place(Span(start, end), utf16))
            for start, end in find_mentions(text)
        ]

    def _of_marks(self, record: Record) -> list[GivenMention]:
        marked, page = record.text("text"), _page(record)
        try:
            text, spans, places = unmarked(marked)
        except ValueError as error:
            raise record.error(
                "broken marks", field="text", expected="[[ and ]] around each mention", got=str(error)
            ) from None
        utf16 = Utf16(marked) if self.offsets == "utf16" else None
        mentions = []
        for (start, end), place in zip(spans, places, strict=True):
            _check_not_blank(record, text[start:end], "text")
            mentions.append(GivenMention(self._mention(text, start, end, page), text[start:end], _place(place, utf16)))
        return mentions

    def _mention(self, text: str, start: int, end: int, page: str) -> TextMention:
        made = mention_of_tokens if self.tokenized else mention_of_text
        return made(text, start, end, self.context_tokens, page)

    def _of_tokens(self, record: Record) -> GivenMention:
        page, start, end = record.name("context_document_id"), *(record.index(field) for field in _ZESHEL[1:])
        document = self.find_page(page)
        if document is None:
            expected = "the document_id of an entity of the knowledge base"
            raise record.error("unknown document", field="context_document_id", expected=expected, got=page)
        tokens = Page(document.text)
        if not start <= end < len(tokens):
            expected = f"start_index ({start}) or more, and less than {len(tokens)} tokens"
            raise record.error("span out of range", field="end_index", expected=expected, got=end)
        found, said = tokens.span(start, end + 1), record.values.get("text")
        if isinstance(said, str) and said.lower() != found.lower():
            raise record.error("text differs from its tokens", field="text", expected=repr(found), got=repr(said))
        left, right = (
            tokens.span(start - self.context_tokens, start),
            tokens.span(end + 1, end + 1 + self.context_tokens),
        )
        return GivenMention(TextMention(left, found, right, page), found, None)


def _offset(values: Record, text: str, utf16: Utf16 | None, field: str, given: int) -> int:
    """Converts an offset into code points, and checks that it is one between two characters of the text."""
    try:
        offset = given if utf16 is None else utf16.code_points(given)
    except ValueError:
        raise values.error("wrong offset", field=field, expected="none within a surrogate pair", got=given) from None
    if offset > len(text):
        length, unit = (len(text), "code points") if utf16 is None else (utf16.units(len(text)), "UTF-16 code units")
        raise values.error("wrong offset", field=field, expected=f"at most {length:,} {unit}", got=given)
    if text[offset - 1 : offset + 1] == "\r\n":
        raise values.error(
            "wrong offset", field=field, expected="none between carriage return and line feed", got=given
        )
    return offset


def _place(place: tuple[int, int], utf16: Utf16 | None) -> tuple[int, int]:
    """Converts a start and an end from code points into the unit of the line."""
    return place if utf16 is None else (utf16.units(place[0]), utf16.units(place[1]))


def _page(record: Record) -> str:
    """The page that a text is: a number as ``id`` is no document's name."""
    for field in ("context_document_id", "id"):
        if isinstance(record.values.get(field), str):
            return record.text(field)
    return ""


def _check_not_blank(record: Record, mention: str, field: str) -> None:
    if not mention.strip():
        raise record.error(
            "empty mention", field=field, expected="a mention that is not only white space", got=repr(mention)
        )


def all_mentions(lines: Sequence[InputLine]) -> list[TextMention]:
    """Returns the mentions of some lines, in order."""
    return [given.mention for line in lines for given in line.mentions]
