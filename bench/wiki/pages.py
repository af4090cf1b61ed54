"""Writes wikis: pages with the forms of links that wikis have, and dumps of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

_WORDS = ("the", "town", "river", "of", "harbour", "old", "lies", "near", "1907", "naïve", "Ωmega", "город", "mill's")
NAMES = ("Vask", "Orlen (river)", "Café Noir", "Straße 9", "Орлен", "東京", "St. John's", "R&D", "old mill", "A/B")
_DISTINCT = 500  # texts of a large wiki


class Wikitext:
    """Writes pages with the forms of links that wikis have, in prose, lists, headings and everything around them."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def page(self) -> str:
        """Returns a page."""
        forms = (*[self._paragraph] * 8, self._list, self._heading, self._template, self._table, self._file, self._odd)
        return "\n\n".join(self._random.choice(forms)() for _ in range(self._random.randint(4, 16)))

    def _words(self, most: int = 8) -> str:
        return " ".join(self._random.choices(_WORDS, k=self._random.randint(1, most)))

    def _target(self) -> str:
        name = self._random.choice(NAMES)
        changed = (name, name, name.replace(" ", "_"), name[:1].lower() + name[1:], f"{name}#Past")
        return f"{self._random.choice(changed)}".replace("&", self._random.choice(["&", "&amp;"]))

    def _link(self) -> str:
        target, words = self._target(), self._words(3)
        label = self._random.choice([words, f"''{words}''", f"'''{words}'''", f" {words}", f"the {words}"])
        return self._random.choice(
            [f"[[{target}]]", f"[[{target}|{label}]]", f"[[{target}|{label}]]s", f"[[{target}]]s"]
        )

    def _paragraph(self) -> str:
        parts = [self._random.choice((self._words, self._link, self._inline))() for _ in range(12)]
        return f"{' '.join(parts)}."

    def _inline(self) -> str:
        link, words = self._link(), self._words()
        return self._random.choice([
            f"<ref name=x>{words} {link}</ref>", f"{{{{cite|{words}|url=[[Vask]]}}}}", f"<!-- {link} -->",
            f"''{words}''", f"[http://host.org/a {words}]", "&nbsp;&mdash; ",
            f"<span class=x>{link}</span>", f"'''{link}'''", f"<sub>{words}</sub>", "[[w:Vask|abroad]]",
            "[[:Category:Mills|mills]]", f"({link})", f"“{link}”",
        ])  # fmt: skip

    def _list(self) -> str:
        marks = self._random.choice(["*", "#", "**", ":", ";"])
        return "\n".join(f"{marks} {self._link()} {self._words()}" for _ in range(self._random.randint(1, 5)))

    def _heading(self) -> str:
        return f"== {self._words(3)} ==\n{self._paragraph()}"

    def _template(self) -> str:
        inner = f"{{{{flag|{self._words(1)}}}}}"
        return f"{{{{Infobox town\n| name = {self._words(2)}\n| near = {self._link()}\n| {inner}\n}}}}"

    def _table(self) -> str:
        rows = "\n".join(f"|-\n| {self._link()} || {self._words()}" for _ in range(3))
        return f'{{| class="wikitable"\n! {self._words(1)} !! {self._words(1)}\n{rows}\n|}}'

    def _file(self) -> str:
        return f"[[File:A b.jpg|thumb|200px|{self._words()} {self._link()}]]\n[[Category:Mills|{self._words(1)}]]"

    def _odd(self) -> str:
        return self._random.choice(
            [f"[[{self._words(2)}", "{{unclosed", "]] }}", "__NOTOC__", "<br />\n----", "[[de:Vask]]"]
        )


def write_dump(path: Path, texts: Iterable[tuple[str, str]]) -> None:
    """Writes a dump of pages, each a title and its wikitext."""
    with path.open("w", encoding="utf-8") as file:
        file.write("<mediawiki>\n<siteinfo>\n<base>http://host/wiki/Main</base>\n")
        file.write('<namespaces>\n<namespace key="0" case="first-letter" />\n')
        file.write('<namespace key="10" case="first-letter">Template</namespace>\n</namespaces>\n</siteinfo>\n')
        for number, (title, text) in enumerate(texts, start=1):
            file.write(
                f"<page>\n<title>{escape(title)}</title>\n<ns>0</ns>\n<id>{number}</id>\n<revision>\n<id>1</id>\n"
            )
            file.write(f'<text xml:space="preserve">{escape(text)}</text>\n</revision>\n</page>\n')
        file.write("</mediawiki>\n")


def large_wiki(seed: int, count: int) -> Iterator[tuple[str, str]]:
    """Yields pages with links to all others. Quick, because few texts are written and their links changed.

    The first pages have the names that the texts link to, the others these names with numbers.
    """
    chosen, written = random.Random(seed), Wikitext(seed)
    texts = [written.page() for _ in range(_DISTINCT)]
    for number in range(count):
        text = chosen.choice(texts)
        for name in NAMES:
            text = text.replace(f"[[{name}", f"[[{name} {chosen.randrange(1, max(count // len(NAMES), 2))}")
        name, again = NAMES[number % len(NAMES)], number // len(NAMES)
        yield f"{name} {again}" if again else name, text
