"""A wiki and its pages, as a dump has them. The process that parses wikitext imports this and starts quickly."""

from __future__ import annotations

from dataclasses import dataclass, field


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
