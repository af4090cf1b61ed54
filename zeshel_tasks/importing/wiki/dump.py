"""Reads the pages of a MediaWiki dump as a stream, in memory for one revision.

The stream is cut at the tags ``<page>`` and ``<revision>``, and each page is parsed as a document of its own: in dumps,
every ``<`` of a text is escaped. So a damaged page costs only itself, a page with thousands of revisions needs the
memory of one, and no document type is ever read, which could declare entities that expand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO
from xml.etree import ElementTree
from xml.parsers import expat

from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import MAX_TEXT_CHARACTERS, Input, opened
from zeshel_tasks.importing.wiki.page import Page, Site

MAX_REVISION_BYTES = 32 * 2**20
"""MediaWiki saves texts of up to 2 MiB. Escaping makes them at most six times as long."""

_MAX_TITLE_BYTES = 512  # of MediaWiki: 255, and the name of a namespace before them
_MAX_MODEL_CHARACTERS = 40
_ID = re.compile("[0-9]{1,18}")
_BLOCK = 2**20
_TAG = re.compile(rb"<(/?)(page|revision|siteinfo|mediawiki)(?=[\s/>])")
_LONGEST_TAG = 16
_TITLE = re.compile(rb"<title>([^<]*)</title>")
_TIMESTAMP = re.compile(rb"<timestamp>([^<]*)</timestamp>")
_REFERENCE = re.compile(r"&#(?:[xX]0*([0-9a-fA-F]{1,8})|0*([0-9]{1,9}));")
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REDIRECT = re.compile(r"\s*#redirect\s*:?\s*\[\[([^\]|]+)", re.IGNORECASE)


@dataclass
class Dump:
    """A file with pages.

    Attributes:
        file: what to read, compressed or not.
        max_bytes: how large it may be without compression, after ``bytes_before`` of other parts.
        position: how many bytes of the file have been read.
        size: how many these are without compression.
    """

    file: Input
    max_bytes: int | None = None
    bytes_before: int = 0
    position: int = 0
    size: int = 0

    def site(self) -> Site:
        """Returns what the head of the dump says.

        Raises:
            DataError: the file is no dump, damaged or too large.
        """
        try:
            with opened(self.file) as stream:
                for piece, is_end, name in _tags(stream, self):
                    if name == b"siteinfo" and is_end and piece is not None:
                        return _site(piece)
                    if name == b"page":
                        break
        except DataError as error:
            raise _with_place(error, self, _Pages()) from error
        return Site()

    def pages(self) -> Iterator[Page]:
        """Yields the pages in file order.

        Raises:
            DataError: the file is no dump, cut or too large. The message says how far it came.
        """
        state = _Pages()
        with self.file.path.open("rb") as packed:
            try:
                with opened(self.file, packed) as stream:
                    for piece, is_end, name in _tags(stream, self):
                        for page in state.receive(piece, is_end, name):
                            self.position = packed.tell()
                            yield page
            except DataError as error:
                raise _with_place(error, self, state) from error
        if not state.begun:
            raise DataError("no dump of a MediaWiki", file=self.file.name, expected="an XML file with <mediawiki>")
        if not state.ended:
            raise DataError("the dump is cut", file=self.file.name, expected="</mediawiki> at its end", got=state.place)


class _Pages:
    """Puts the pieces between tags together to pages."""

    def __init__(self) -> None:
        self.begun = self.ended = False
        self._count, self._last = 0, ""
        self._head: bytes | None = None
        self._revision: bytes | None = None
        self._is_in_page = self._is_in_revision = self._is_too_long = False

    @property
    def place(self) -> str:
        """How far the dump has been read, for messages."""
        return f"the end after {self._count:,} pages" + (f", the last one {self._last!r}" if self._count else "")

    def receive(self, piece: bytes | None, is_end: bool, name: bytes) -> Iterator[Page]:
        """Receives a tag and what is before it, which is None if it is too long; yields the page that it ends."""
        if name == b"mediawiki":
            self.begun, self.ended = True, is_end
        if name == b"revision" and self._is_in_page:
            self._receive_revision(piece, is_end)
        if name == b"page" and self._is_in_page:
            self._head = piece if self._head is None else self._head
            yield self._noted(self._finished(is_end))
        if name == b"page":
            self._is_in_page, self._is_in_revision, self._is_too_long = not is_end, False, False
            self._head = self._revision = None

    def _receive_revision(self, piece: bytes | None, is_end: bool) -> None:
        self._is_in_revision = not is_end
        if not is_end and self._head is None:
            self._head = piece or b">"
        elif is_end and piece is None:
            self._is_too_long = True
        elif is_end and piece is not None and _timestamp(piece) >= _timestamp(self._revision or b""):
            self._revision, self._is_too_long = piece, False

    def _finished(self, is_end: bool) -> Page:
        head, revision = self._head or b">", self._revision
        found = _TITLE.search(head)
        title = _text(found[1]) if found else ""
        if not is_end or self._is_in_revision:
            return Page("", title, problem="a closing tag is missing")
        if self._is_too_long:
            return Page("", title, problem=f"a revision of more than {MAX_REVISION_BYTES:,} bytes")
        body = b"" if revision is None else b"<revision" + revision + b"</revision>"
        try:
            return _page(ElementTree.fromstring(_text(b"<page" + head + body + b"</page>")), title)
        except ElementTree.ParseError as error:
            return Page("", title, problem=f"broken XML: {expat.ErrorString(error.code)}")

    def _noted(self, page: Page) -> Page:
        self._count += 1
        self._last = page.title
        return page


def _with_place(error: DataError, dump: Dump, pages: _Pages) -> DataError:
    return DataError(error.problem, file=dump.file.name, expected=error.expected, got=pages.place)


def _tags(stream: IO[bytes], dump: Dump) -> Iterator[tuple[bytes | None, bool, bytes]]:
    """Yields each tag that matters: what is between the one before and this, if it is an end tag, its name.

    The piece begins with the rest of the tag before, and is None if it is longer than a revision may be.
    """
    piece, is_too_long, dump.size = b"", False, 0
    while block := stream.read(_BLOCK):
        dump.size += len(block)
        if dump.max_bytes is not None and dump.bytes_before + dump.size > dump.max_bytes:
            expected = f"at most {dump.max_bytes:,} bytes without compression (max_unpacked_gb)"
            raise DataError("too large", file=dump.file.name, expected=expected)
        seen = max(len(piece) - _LONGEST_TAG, 0)
        piece += block
        start = 0
        for found in _TAG.finditer(piece, seen):
            yield (None if is_too_long else piece[start : found.start()]), bool(found[1]), found[2]
            start, is_too_long = found.end(), False
        piece = piece[start:]
        if len(piece) > MAX_REVISION_BYTES:
            piece, is_too_long = piece[-_LONGEST_TAG:], True


def _page(element: ElementTree.Element, title: str) -> Page:
    page_id = element.findtext("id", "").strip()
    title = " ".join(element.findtext("title", title).split())
    if not _ID.fullmatch(page_id) or not title:
        return Page("", title, problem="no title or no id")
    if len(title.encode()) > _MAX_TITLE_BYTES:
        return Page(page_id, title[:_MAX_TITLE_BYTES], problem=f"a title of more than {_MAX_TITLE_BYTES:,} bytes")
    redirect = element.find("redirect")
    text = element.findtext("revision/text") or ""
    if redirect is not None and redirect.get("title"):
        return Page(page_id, title, redirect=redirect.get("title"))
    if found := _REDIRECT.match(text):
        return Page(page_id, title, redirect=found[1])
    model = element.findtext("revision/model", "wikitext").strip()[:_MAX_MODEL_CHARACTERS]
    if model != "wikitext":
        return Page(page_id, title, problem=f"no wikitext: {model}")
    if len(text) > MAX_TEXT_CHARACTERS:
        return Page(page_id, title, problem=f"more than {MAX_TEXT_CHARACTERS:,} characters")
    return Page(page_id, title, text)


def _site(piece: bytes) -> Site:
    try:
        element = ElementTree.fromstring(_text(b"<siteinfo" + piece + b"</siteinfo>"))
    except ElementTree.ParseError:
        return Site()
    namespaces = {int(found.get("key", "0")): found for found in element.iter("namespace") if _is_number(found)}
    everywhere = element.findtext("case", "first-letter").strip()
    sensitive = {key for key, found in namespaces.items() if found.get("case", everywhere) == "case-sensitive"}
    if everywhere == "case-sensitive":
        sensitive.add(0)
    return Site({key: found.text or "" for key, found in namespaces.items()}, frozenset(sensitive))


def _is_number(element: ElementTree.Element) -> bool:
    return re.fullmatch(r"-?[0-9]{1,9}", element.get("key", "")) is not None


def _timestamp(revision: bytes) -> bytes:
    found = _TIMESTAMP.search(revision)
    return found[1] if found else b""


def _text(raw: bytes) -> str:
    """Decodes XML. What no XML may contain, such as NUL and half a surrogate pair, becomes U+FFFD."""
    return _NOT_XML.sub("\ufffd", _REFERENCE.sub(_reference, raw.decode("utf-8", "replace")))


def _reference(found: re.Match[str]) -> str:
    code = int(found[1], 16) if found[1] else int(found[2])
    return "\ufffd" if code > 0x10FFFF or _NOT_XML.match(chr(code)) else found[0]
