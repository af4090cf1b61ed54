"""What the target of a link means, by the rules of MediaWiki (https://www.mediawiki.org/wiki/Help:Links).

Neither the aliases of a wiki's namespaces nor its prefixes of other wikis are part of a dump. So the names that every
MediaWiki knows count in addition to those of the dump, and the prefixes of :data:`INTERWIKI`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from unicodedata import normalize
from urllib.parse import unquote

from zeshel_tasks.importing.wiki.page import Site

MAIN, FILE, CATEGORY = 0, 6, 14

_SUBJECTS = {2: "User", 4: "Project", 6: "File", 8: "MediaWiki", 10: "Template", 12: "Help", 14: "Category"}
_CANONICAL = {-2: "Media", -1: "Special", 1: "Talk", 828: "Module", 829: "Module talk"}
_CANONICAL |= _SUBJECTS | {key + 1: f"{name} talk" for key, name in _SUBJECTS.items()}
_ALIASES = {"image": FILE, "image talk": FILE + 1}

INTERWIKI = re.compile(
    "b|betawikiversity|c|commons|d|f|foundation|incubator|m|mediawiki|mediawikiwiki|meta|metawikimedia|mw|n|outreach|"
    "phab|phabricator|q|s|species|toollabs|toolforge|v|voy|w|wikia|wikibooks|wikidata|wikifunctions|wikimedia|wikinews|"
    "wikipedia|wikiquote|wikisource|wikispecies|wikiversity|wikivoyage|wikt|wiktionary|wmf",
    re.IGNORECASE,
)
"""Prefixes of links to other wikis."""

_LANGUAGE = re.compile(r"(?:[a-z]{2,3}|simple)(?:-[a-z]+)*")
_SPACES = re.compile(r"[\s_]+")
_INVISIBLE = re.compile("[\u200e\u200f\u202a-\u202e]")
_NOT_IN_TITLES = re.compile(
    r"[<>\[\]{}|\n\ufffd]|~~~|%[0-9A-Fa-f]{2}|&(?:#[0-9]+|#[xX][0-9A-Fa-f]+|[^\W_]+);|^:|(?:^|/)\.{1,2}(?:/|$)"
)
_MEDIA = re.compile(r"\.(?:gif|jpe?g|mp[34]|og[agv]|pdf|png|svg|tiff?|webm|webp)$", re.IGNORECASE)
_PARENTHESES = re.compile(r"\s*[(（][^()（）]*[)）]$")
_COMMA = re.compile(r"(?:, |，|، ).*$")

Kind = Literal["page", "here", "category", "file", "other wiki", "language", "invalid"]


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a link.

    Attributes:
        kind: ``page`` is one of this wiki, which may not exist; ``here`` is a section of the same page; ``category``
            and ``file`` are links that put the page into a category or show the file; ``language`` is the same page in
            another language.
        namespace: number.
        name: title without its namespace.
    """

    kind: Kind
    namespace: int = MAIN
    name: str = ""


class Titles:
    """Reads titles and targets of one wiki."""

    def __init__(self, site: Site) -> None:
        self._numbers = _ALIASES | {name.casefold(): key for key, name in _CANONICAL.items()}
        self._numbers |= {_SPACES.sub(" ", name).casefold(): key for key, name in site.namespaces.items() if name}
        self._case_sensitive = site.case_sensitive

    def of_page(self, title: str) -> tuple[int, str]:
        """Returns the namespace and the name of a page's title, or of a redirect's target."""
        return self._page(_cleaned(title.partition("#")[0]).lstrip(":").strip())

    def of_link(self, text: str) -> Target:
        """Returns what the target of a link means, ``text`` being what is before its ``|``."""
        target = _cleaned(decoded(text))
        is_forced = target.startswith(":")
        title, mark, _ = target.removeprefix(":").partition("#")
        title = title.strip()
        if not title:
            return Target("here" if mark else "invalid")
        if _NOT_IN_TITLES.search(title):
            return Target("invalid")
        namespace, name = self._page(title)
        prefix, colon, rest = title.partition(":")
        if colon and namespace == MAIN:
            if INTERWIKI.fullmatch(prefix.strip()):
                return Target("other wiki")
            if _LANGUAGE.fullmatch(prefix) and rest and not rest.startswith(" "):
                return Target("other wiki" if is_forced else "language")
            if _MEDIA.search(title):  # perhaps an alias of the namespace of files
                return Target("page" if is_forced else "file", FILE, name)
        if not is_forced and namespace in (FILE, CATEGORY):
            return Target("file" if namespace == FILE else "category", namespace, name)
        return Target("page", namespace, name) if name else Target("invalid")

    def _page(self, title: str) -> tuple[int, str]:
        prefix, colon, rest = title.partition(":")
        namespace = self._numbers.get(prefix.strip().casefold(), MAIN) if colon else MAIN
        name = title if namespace == MAIN else rest.strip()
        if namespace not in self._case_sensitive:
            name = _with_capital(name)
        return namespace, name


def decoded(target: str) -> str:
    """Returns the target of a link with the characters that ``%20`` and its like stand for."""
    return unquote(target) if "%" in target else target


def pipe_trick(target: str) -> str:
    """Returns what ``[[target|]]`` shows: without namespace and parentheses, or without what follows a comma."""
    shown = target.removeprefix(":").rpartition(":")[2].strip()
    without = _PARENTHESES.sub("", shown)
    return without if without != shown else _COMMA.sub("", shown)


def _cleaned(text: str) -> str:
    return normalize("NFC", _SPACES.sub(" ", _INVISIBLE.sub("", text)).strip())


def _with_capital(name: str) -> str:
    capital = name[:1].upper()
    return capital + name[1:] if len(capital) == 1 else name  # ß stays
