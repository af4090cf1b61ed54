"""Compares the links that ``import-wiki`` finds with those in the HTML that MediaWiki's own tests expect.

    apt-get source --download-only mediawiki          # or its release; the tests are GPL and no part of this project
    python -m bench.wiki.parser_tests mediawiki-1.39.17/tests/parser/*ParserTests.txt [--show 20]

A link is the same if page, target and anchor are. Some links are left out by rule: those in tables, captions, galleries
and references, and those that only templates make. They are counted. Tests in other languages, of subpages, of
redirects, and of other output than HTML are not compared. Exits with 1 if fewer than 95% of the other links are found:
the tests are there for odd cases.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from zeshel_tasks.data.raw_text import tokenized
from zeshel_tasks.importing.wiki.page import Page, Site
from zeshel_tasks.importing.wiki.parser import Parser
from zeshel_tasks.importing.wiki.titles import Titles

WANTED = 0.95
SITE = Site({100: "MemoryAlpha", 101: "MemoryAlpha talk"})
"""The wiki that MediaWiki's tests have."""

_TITLE = "Parser test"
_SECTION = re.compile(r"^!!\s*([\w/*+-]+).*$")
_HTML = ("html/php", "html", "html/*", "html/parsoid", "html/parsoid+standalone")
_OTHER_OUTPUT = re.compile(r"\b(?:pst|msg|comment|disabled|subpage|language|variant|preload|showtocdata)\b")
_ONLY_BACK = re.compile(r"parsoid\s*=(?![^=]*wt2html)[^=]*html2wt", re.DOTALL)
_REDIRECT = re.compile(r"\s*#redirect", re.IGNORECASE)
_TITLE_OPTION = re.compile(r"title=\[\[(.*?)\]\]")
_NOT_A_PAGE_S = {"image", "internal", "extiw", "external", "selflink", "mw-selflink", "mw-file-description"}
_PLACES = {"table": "in a table", "references": "in a reference", "gallery": "in a gallery", "thumb": "in a caption"}
_PLACES |= {"figure": "in a caption", "toc": "in the table of contents", "mw-editsection": "in the table of contents"}
_EMPTY = {"br", "hr", "img", "wbr", "meta", "link", "input", "area", "col"}
_NOT_LINKED = {-2, -1}  # files, and pages that the software makes
_PREFIXES = "es|gerrit|ko|local|meatball|memoryalpha|meta|mi|stats|zh"
_OF_OTHER_WIKI = re.compile(rf"(?:{_PREFIXES})\s*:", re.IGNORECASE)
ONLY_HERE, MADE, PREFIX = "only here", "made by a template", "a prefix that a dump does not tell"
PIPE_TRICK = "only here: the pipe trick, which MediaWiki does when a page is saved"
BY_RULE = {*_PLACES.values(), MADE, PREFIX, "in a template", "a template in its target", "in a tag that is left out"}
BY_RULE |= {"shows a file"}


class Test(NamedTuple):
    """A test: wikitext, and the HTML that MediaWiki makes of it."""

    name: str
    options: str
    wikitext: str
    html: str

    @property
    def title(self) -> str:
        """The title of the page that the wikitext is on."""
        found = _TITLE_OPTION.search(self.options)
        return found[1] if found else _TITLE


class Link(NamedTuple):
    """A link: namespace and name of its target, and its anchor as tokens."""

    namespace: int
    name: str
    anchor: str


def main() -> int:
    """Compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--show", type=int, default=5, help="number of samples of each kind of difference")
    options = parser.parse_args()
    tests = [test for path in options.files for test in read_tests(path.read_text(encoding="utf-8"))]
    return int(_compared(tests, options.show) < WANTED)


def read_tests(text: str) -> Iterator[Test]:
    """Yields the tests of a file that have wikitext and HTML."""
    sections, name = dict[str, list[str]](), ""
    for line in text.splitlines():
        found = _SECTION.match(line)
        if found is None:
            sections.setdefault(name, []).append(line)
            continue
        name = found[1].lower()
        if name in ("test", "article"):
            sections = {}
        if name == "end":
            of = {key: "\n".join(lines) for key, lines in sections.items()}
            html = next((of[key] for key in _HTML if key in of), None)
            wikitext = of.get("wikitext", of.get("input"))
            if html is not None and wikitext is not None:
                yield Test(of.get("test", "").strip(), of.get("options", "") + of.get("config", ""), wikitext, html)


def _compared(tests: list[Test], show: int) -> float:
    titles, parser = Titles(SITE), Parser(SITE)
    differences = defaultdict[str, list[str]](list)
    compared = [test for test in tests if _is_compared(test)]
    total = same = 0
    for test in compared:
        html, answer = _ReadHtml(titles, titles.of_page(test.title)), parser.parse(Page("1", test.title, test.wikitext))
        html.feed(test.html)
        theirs, ours = Counter(html.links), _ours(answer, titles.of_page(test.title))
        total += theirs.total()
        same += (theirs & ours).total()
        for link in (theirs - ours).elements():
            reason = html.places[link] or _reason(link, test, ours - theirs, answer)
            differences[reason].append(f"{test.name}: {link}, here {_others(link, ours - theirs)}")
        for link in (ours - theirs).elements():
            differences[_reason_here(link, test)].append(f"{test.name}: {link}, there {_others(link, theirs - ours)}")
    parser.close()
    by_rule = sum(len(found) for reason, found in differences.items() if reason in BY_RULE)
    share = same / (total - by_rule)
    print(
        f"{len(compared):,} of {len(tests):,} tests, {total:,} links of MediaWiki: {same:,} the same, {by_rule:,} left "
        f"out by rule; {share:.2%} of the others"
    )
    for reason, found in sorted(differences.items(), key=lambda item: -len(item[1])):
        print(f"{len(found):,} {reason}", *found[:show], sep="\n    ")
    return share


class _ReadHtml(HTMLParser):
    """Reads links to pages.

    Attributes:
        links: all of them.
        places: link -> where it is, if links there are left out by rule.
    """

    def __init__(self, titles: Titles, page: tuple[int, str]) -> None:
        super().__init__()
        self._page = page
        self.links: list[Link] = []
        self.places: dict[Link, str] = {}
        self._titles = titles
        self._open: list[tuple[str, str]] = []
        self._target: tuple[int, str] | None = None
        self._anchor = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes where the parser is."""
        found = {name: value or "" for name, value in attrs}
        if tag == "a":
            self._target, self._anchor = self._target_of(found), ""
        elif tag not in _EMPTY:
            self._open.append((tag, _place(tag, found.get("class", "").split())))

    def handle_endtag(self, tag: str) -> None:
        """Ends a link or another element."""
        if tag == "a" and self._target is not None:
            link = Link(*self._target, tokenized(self._anchor)[0])
            if link.anchor and link[:2] != self._page and link.namespace not in _NOT_LINKED:
                self.links.append(link)
                self.places[link] = next((place for _, place in self._open if place), "")
            self._target = None
        names = [name for name, _ in self._open]
        if tag in names:
            del self._open[len(names) - 1 - names[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        """Notes the text of a link."""
        self._anchor += data

    def _target_of(self, attributes: dict[str, str]) -> tuple[int, str] | None:
        address = urlsplit(attributes.get("href", ""))
        query = parse_qs(address.query)
        if not _NOT_A_PAGE_S.isdisjoint(attributes.get("class", "").split()):
            return None
        if address.path == "/index.php" and "redlink" in query:
            return self._titles.of_page(query["title"][0])
        of_parsoid = attributes.get("rel") == "mw:WikiLink" and address.path.startswith("./")
        if address.netloc or not (address.path.startswith("/wiki/") or of_parsoid):
            return None
        return self._titles.of_page(unquote(address.path.removeprefix("/wiki/").removeprefix("./")))


def _place(tag: str, classes: list[str]) -> str:
    return next((place for name, place in _PLACES.items() if tag == name or name in classes), "")


def _ours(answer: dict[str, Any], title: tuple[int, str]) -> Counter[Link]:
    found = Counter[Link]()
    for start, end, namespace, name in answer.get("links", ()):
        if (namespace, name) != title and namespace not in _NOT_LINKED:
            found[Link(namespace, name, tokenized(answer["text"][start:end])[0])] += 1
    return found


def _is_compared(test: Test) -> bool:
    """Returns True if MediaWiki makes the HTML of the wikitext, by itself and in English, and shows it."""
    return not (_OTHER_OUTPUT.search(test.options) or _ONLY_BACK.search(test.options) or _REDIRECT.match(test.wikitext))


def _reason_here(link: Link, test: Test) -> str:
    if _OF_OTHER_WIKI.match(link.name):
        return f"only here: {PREFIX}"
    if "|]]" in test.wikitext:
        return PIPE_TRICK
    return "only here, beside a template" if "{{" in test.wikitext else ONLY_HERE


def _reason(link: Link, test: Test, others: Counter[Link], answer: dict[str, Any]) -> str:
    titles = Titles(SITE)
    for reason, target, _ in answer.get("dropped", ()) if "{{" not in test.wikitext else ():
        found = titles.of_link(target)
        if (found.namespace, found.name) == link[:2]:
            return str(reason)
    if _OF_OTHER_WIKI.match(link.anchor) or _OF_OTHER_WIKI.match(link.name):
        return PREFIX
    if "{{" in test.wikitext:
        return MADE
    return "another anchor" if any(other[:2] == link[:2] for other in others) else "not here"


def _others(link: Link, found: Counter[Link]) -> str:
    return ", ".join(repr(other.anchor) for other in found if other[:2] == link[:2]) or "none"


if __name__ == "__main__":
    sys.exit(main())
