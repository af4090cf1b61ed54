"""Writes dumps of small wikis."""

from __future__ import annotations

import random
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

NAMESPACES = {-1: "Spezial", 0: "", 1: "Diskussion", 4: "Projekt", 6: "Datei", 10: "Vorlage", 14: "Kategorie"}
NOUNS = ("harbour", "old town", "river")


def dump(pages: Iterable[str], case: str = "first-letter") -> str:
    """A dump with the names of a German wiki."""
    names = "".join(f'<namespace key="{key}" case="{case}">{name}</namespace>' for key, name in NAMESPACES.items())
    head = f"<siteinfo><dbname>towns</dbname><case>{case}</case><namespaces>{names}</namespaces></siteinfo>"
    return f'<mediawiki xml:lang="en">\n{head}\n{"".join(pages)}</mediawiki>\n'


def page(number: int, title: str, text: str, *, redirect: str | None = None, model: str = "wikitext") -> str:
    """A page with one revision."""
    to = "" if redirect is None else f"<redirect title={quoteattr(redirect)} />"
    return (
        f"<page>\n<title>{escape(title)}</title><ns>0</ns><id>{number}</id>{to}\n{revision(text, model=model)}</page>\n"
    )


def revision(text: str, timestamp: str = "2026-01-01T00:00:00Z", *, model: str = "wikitext") -> str:
    """A revision of a page."""
    return (
        f"<revision><id>9</id><timestamp>{timestamp}</timestamp><model>{model}</model>"
        f'<text bytes="{len(text)}" xml:space="preserve">{escape(text)}</text></revision>\n'
    )


def towns(count: int = 60, seed: int = 3) -> str:
    """A wiki whose pages link to each other, by their titles and by other words."""
    chosen = random.Random(seed)
    pages = []
    for number in range(count):
        links = (
            f"The town lies near [[Town {chosen.randrange(count)}|the {chosen.choice(NOUNS)}]]s, "
            f"[[town {chosen.randrange(count)}]] and [[Town {chosen.randrange(count)}|{chosen.randrange(9)}]]."
            for _ in range(4)
        )
        pages.append(page(number + 1, f"Town {number}", "\n".join(links)))
    return dump(pages)
