"""A wiki and its pages, as a dump has them, and what an import and the processes that parse wikitext say to each other.

These processes import little, so they start quickly. Only they import mwparserfromhell.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OUT_OF_MEMORY = 91
"""Exit code of a process that parses."""
READY = b"ready\n"
"""Its first line."""
WITHOUT_TEXT = "without a text"
"""Its answer for a page of nothing but templates."""


@dataclass(frozen=True)
class Site:
    """What a dump says about its wiki.

    Attributes:
        namespaces: number -> name in the wiki's language.
        case_sensitive: numbers of the namespaces in which the case of a title's first letter matters.
    """

    namespaces: dict[int, str] = field(default_factory=dict)
    case_sensitive: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Page:
    """The latest revision of a page.

    Attributes:
        page_id: number of the page in the wiki; empty if unknown.
        title: with its namespace.
        text: wikitext; empty for a redirect.
        redirect: title of the page that this one redirects to.
        problem: why the page cannot be used; empty if it can.
    """

    page_id: str
    title: str
    text: str = ""
    redirect: str | None = None
    problem: str = ""


def site_fields(site: Site) -> dict[str, Any]:
    """Returns a wiki as JSON, for :func:`site_of`."""
    return {"namespaces": sorted(site.namespaces.items()), "case_sensitive": sorted(site.case_sensitive)}


def site_of(fields: dict[str, Any]) -> Site:
    """Returns the wiki that these fields describe."""
    return Site(dict(fields["namespaces"]), frozenset(fields["case_sensitive"]))
