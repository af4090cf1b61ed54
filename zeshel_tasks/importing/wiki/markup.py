"""Wikitext becomes plain text and the links in it, as far as that is possible without the wiki's templates.

Prose, headings, lists and quotations are kept. Templates, tables, references, files with their captions, galleries,
formulas, code with its own syntax, comments and ``<includeonly>`` are left out.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import NamedTuple
from unicodedata import category

import mwparserfromhell
from mwparserfromhell.nodes import (
    Argument,
    Comment,
    ExternalLink,
    Heading,
    HTMLEntity,
    Node,
    Tag,
    Template,
    Text,
    Wikilink,
)
from mwparserfromhell.wikicode import Wikicode

from zeshel_tasks.importing.wiki.titles import Titles, decoded, pipe_trick

_LEFT_OUT = (
    ("in a table", re.compile("table")),
    ("in a reference", re.compile("ref|references")),
    ("in a gallery", re.compile("gallery|imagemap|slideshow")),
    (
        "in a tag that is left out",
        re.compile(
            "categorytree|ce|chem|dynamicpagelist|graph|hiero|includeonly|indicator|infobox|inputbox|mapframe|maplink|"
            "math|musicscore|poll|score|script|section|source|style|syntaxhighlight|templatedata|templatestyles|timeline"
        ),
    ),
)
_LITERAL = ("nowiki", "pre")
_BLOCK = re.compile("blockquote|br|center|d[dlt]|div|h[1-6r]|li|[ou]l|p|poem|pre")
_APOSTROPHES = re.compile("'{2,}")
_MAGIC_WORD = re.compile(r"__[A-Z]+__")
_STRAY_TAG = re.compile(r"</?[A-Za-z][^<>\n]*>")
_NOT_TEXT = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")
_TRAIL = re.compile(r"[^\W\d_]+")
# Scripts without case whose wikis count letters after a link as part of it: Hebrew, Arabic. Chinese has no spaces.
_CASELESS_TRAIL = ((0x05D0, 0x05EA), (0x0620, 0x064A))


class Link(NamedTuple):
    """A link to a page of this wiki, which may not exist; ``start`` and ``end`` are code points of the text."""

    start: int
    end: int
    namespace: int
    name: str


class Dropped(NamedTuple):
    """A link that is none to a page, or that is not in the text."""

    reason: str
    target: str
    anchor: str


@dataclass
class PlainText:
    """A text with its links, in order."""

    text: str
    links: list[Link]
    dropped: list[Dropped]


def plain_text(wikitext: str, titles: Titles) -> PlainText:
    """Returns the text of a page and the links in it.

    Raises:
        ParserError: mwparserfromhell cannot parse the wikitext.
    """
    writer = _Writer(titles)
    # Without style tags: pairing '' and ''' is slow on odd pages, and they only change the look.
    writer.write_all(mwparserfromhell.parse(wikitext, skip_style_tags=True))
    return PlainText("".join(writer.parts), writer.links, writer.dropped)


@dataclass
class _Writer:
    """Writes nodes as text.

    Attributes:
        parts: the text so far.
        links, dropped: the links so far.
    """

    titles: Titles
    parts: list[str] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    _length: int = 0
    _takes_trail: bool = False

    def write_all(self, code: Wikicode | None) -> None:
        """Writes nodes one after the other."""
        nodes = list(code.nodes) if code is not None else []
        for node, after in zip_longest(nodes, nodes[1:]):
            if not isinstance(node, Text | Comment):
                self._takes_trail = False
            if isinstance(node, Wikilink) and isinstance(after, Text):
                _move_bracket(node, after)
            self._write(node)

    def _write(self, node: Node) -> None:
        if isinstance(node, Text):
            self._write_text(str(node.value))
        elif isinstance(node, Wikilink):
            self._write_link(node)
        elif isinstance(node, HTMLEntity):
            self._emit(_character(node))
        elif isinstance(node, Tag):
            self._write_tag(node)
        elif isinstance(node, Heading):
            self._emit("\n")
            self.write_all(node.title)
            self._emit("\n")
        elif isinstance(node, ExternalLink):
            self.write_all(node.title if node.brackets else node.url)
        elif isinstance(node, Template | Argument):
            self._leave_out(node, "in a template")

    def _emit(self, text: str) -> None:
        text = _NOT_TEXT.sub("\ufffd", text)
        self.parts.append(text)
        self._length += len(text)

    def _write_text(self, text: str) -> None:
        if self._takes_trail and (trail := _trail(text)):
            self._emit(trail)
            self.links[-1] = self.links[-1]._replace(end=self._length)
            text = text[len(trail) :]
        self._takes_trail = self._takes_trail and not text
        self._emit(_STRAY_TAG.sub("", _MAGIC_WORD.sub("", _APOSTROPHES.sub(_without_style, text))))

    def _write_tag(self, tag: Tag) -> None:
        name = str(tag.tag).strip().lower()
        left_out = next((reason for reason, names in _LEFT_OUT if names.fullmatch(name)), None)
        if left_out is not None:
            self._leave_out(tag, left_out)
            return
        around = "\n" if _BLOCK.fullmatch(name) else ""
        self._emit(around)
        if name in _LITERAL:
            self._emit(html.unescape(str(tag.contents or "")))
        elif not tag.self_closing:
            self.write_all(tag.contents)
        self._emit(around)
        self._takes_trail = False

    def _write_link(self, link: Wikilink) -> None:
        if any(isinstance(node, Template | Argument) for node in link.title.nodes):
            self._drop(link, "a template in its target")
            self.write_all(link.text)
            return
        written = _target(link.title)
        target = self.titles.of_link(written)
        if target.kind in ("category", "file", "language"):
            self._drop(link, _DROPPED[target.kind])
            self._leave_out(link.text, "in a caption")
            return
        if link.text is not None and self._has_links(link.text):
            self._drop(link, "around another link")
            self.write_all(link.text)
            return
        start, first, count = self._length, len(self.parts), len(self.dropped)
        self._write_label(link, written)
        if target.kind != "page":
            self._drop(link, _DROPPED[target.kind])
        elif not "".join(self.parts[first:]).strip():
            del self.dropped[count:]
            self._drop(link, "without a text")
        else:
            self.links.append(Link(start, self._length, target.namespace, target.name))
            self._takes_trail = True

    def _write_label(self, link: Wikilink, target: str) -> None:
        if link.text is None:
            self._emit(decoded(target).strip().removeprefix(":").strip())
        elif not str(link.text):
            self._emit(pipe_trick(target))
        else:
            self.write_all(link.text)

    def _has_links(self, code: Wikicode) -> bool:
        return any(self.titles.of_link(_target(link.title)).kind != "file" for link in _shown_links(code))

    def _leave_out(self, node: Node | Wikicode | None, reason: str) -> None:
        """Notes the links in what is left out."""
        for code in node.__children__() if isinstance(node, Node) else (node,):
            for link in code.ifilter_wikilinks() if code is not None else ():
                if self.titles.of_link(_target(link.title)).kind == "page":
                    self._drop(link, reason)

    def _drop(self, link: Wikilink, reason: str) -> None:
        self.dropped.append(Dropped(reason, _shown(link.title), _shown(link.text or link.title)))


_DROPPED = {
    "here": "to a section of the same page",
    "category": "puts the page into a category",
    "file": "shows a file",
    "other wiki": "to another wiki",
    "language": "to another language",
    "invalid": "not a title",
}
_MOST_SHOWN = 200


def _move_bracket(link: Wikilink, after: Text) -> None:
    """Moves a bracket that closes one in the text of a link into it: ``[[Vask|[sic]]]`` ends with the last two."""
    if after.value.startswith("]") and link.text is not None and "[" in str(link.text):
        link.text, after.value = f"{link.text}]", after.value[1:]


def _shown_links(code: Wikicode | None) -> Iterator[Wikilink]:
    """The links in a text, without those in attributes of its tags."""
    for node in code.nodes if code is not None else ():
        if isinstance(node, Wikilink):
            yield node
        elif isinstance(node, Tag):
            yield from _shown_links(node.contents)


def _shown(code: Wikicode) -> str:
    return _NOT_TEXT.sub("\ufffd", str(code))[:_MOST_SHOWN]


def _target(code: Wikicode) -> str:
    return "".join(
        _character(node) if isinstance(node, HTMLEntity) else str(node)
        for node in code.nodes
        if not isinstance(node, Comment)
    )


def _character(entity: HTMLEntity) -> str:
    """The character that an entity stands for: U+FFFD for NUL and half a surrogate pair, as in browsers."""
    return html.unescape(str(entity))


def _trail(text: str) -> str:
    """The letters at the beginning of a text that MediaWiki counts as part of the link before it."""
    found = _TRAIL.match(text)
    letters = found[0] if found else ""
    count = next((place for place, letter in enumerate(letters) if not _is_of_trail(letter)), len(letters))
    return letters[:count]


def _is_of_trail(letter: str) -> bool:
    return category(letter) == "Ll" or any(first <= ord(letter) <= last for first, last in _CASELESS_TRAIL)


def _without_style(found: re.Match[str]) -> str:
    """MediaWiki: 2 apostrophes are italics, 3 bold, 5 both; others are text."""
    count = len(found[0])
    return "'" if count == 4 else "'" * max(count - 5, 0)
