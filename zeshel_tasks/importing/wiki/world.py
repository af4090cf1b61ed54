"""Makes a world of a wiki, by the rules of ZESHEL's authors.

Each page is an entity whose text begins with its title, and each link to another page is a mention of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import IO, Any

from zeshel_tasks.compute.progress import Progress
from zeshel_tasks.config.splits import DEFAULT_SHARES, Shares
from zeshel_tasks.data.mention_category import MentionCategory, mention_category
from zeshel_tasks.data.raw_text import tokenized
from zeshel_tasks.data.zeshel import BadLines, Document, document_line
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.mention_files import write_mention_files
from zeshel_tasks.importing.mention_table import MentionRow, MentionTable
from zeshel_tasks.importing.splits import SplitBy, assign_splits
from zeshel_tasks.importing.wiki.chunks import PageParser, read_chunk
from zeshel_tasks.importing.wiki.dump import Dump
from zeshel_tasks.importing.wiki.kept_pages import KeptPages
from zeshel_tasks.importing.wiki.page import WITHOUT_TEXT, Page
from zeshel_tasks.importing.wiki.page_index import Entity, PageIndex
from zeshel_tasks.importing.wiki.parser import check_installed
from zeshel_tasks.importing.wiki.parts import common_site, in_order
from zeshel_tasks.importing.wiki.summary import Summary
from zeshel_tasks.importing.wiki.titles import MAIN, Titles
from zeshel_tasks.text.json_text import to_json
from zeshel_tasks.text.safe_text import has_control_characters

log = logging.getLogger(__name__)

EXACT_SHARE = 0.05
"""Of ZESHEL's mentions, the share that is equal to its entity's title (Logeswaran et al. 2019)."""

OTHER_NAMESPACE = "in another namespace"
SAME_TITLE = "the title or the id of another page"
EQUAL_TO_TITLE = "equal to the title, and above the share of such mentions"

_LOG_SECONDS = 15.0
_SHOWN = 300
_AROUND = 80


@dataclass(frozen=True)
class WikiSettings:
    """How a wiki becomes a world.

    Attributes:
        world: its name.
        namespaces: numbers of those whose pages are entities.
        exact_share: share of the mentions that may be equal to their entity's title, from 0 to 1.
        shares, split_by, seed: decide about the split of each mention, and which mentions equal to titles stay.
        processes: how many parse pages at the same time.
        max_bytes: how large the dump may be without compression.
    """

    world: str
    namespaces: tuple[int, ...] = (MAIN,)
    exact_share: float = EXACT_SHARE
    shares: Shares = DEFAULT_SHARES
    split_by: SplitBy = "document"
    seed: int = 7
    processes: int = 2
    max_bytes: int | None = None


def make_world(
    dumps: Sequence[Input],
    settings: WikiSettings,
    data: Path,
    work: Path,
    scratch: Path,
    kept: KeptPages | None = None,
) -> Summary:
    """Writes a data set of one wiki, which ``download`` takes as its source.

    Memory holds a few hundred pages of each process. The folders hold all texts and mentions.

    Args:
        dumps: the parts of the dump, in any order.
        settings: how it becomes a world.
        data: a new folder for the data set.
        work: a folder for parsed pages. Those of another attempt in it are reused.
        scratch: an empty folder for temporary files.
        kept: parsed pages that outlive both folders.

    Raises:
        ConfigError: there are too few mentions for the splits, or a package is missing.
        DataError: a part is damaged, cut or of another dump, or there are no links between the pages.
    """
    check_installed()
    dumps = in_order(dumps)
    site = common_site(dumps, settings.max_bytes)
    titles, summary, parsed = Titles(site), Summary(settings.world), list[Path]()
    index, table = PageIndex(scratch / "pages.sqlite", settings.namespaces), MentionTable(scratch / "mentions.sqlite")
    skipped, documents = scratch / "skipped.jsonl", scratch / "documents.json"
    with closing(index), closing(table):
        with skipped.open("w", encoding="utf-8") as file:
            pages = _Pages(summary, index, titles, file)
            for path in PageParser(site, work, settings.processes, kept).parsed(_read(dumps, titles, settings)):
                pages.add(path)
                parsed.append(path)
        log.info("%s: %s pages", settings.world, f"{pages.count:,}")
        _Writer(settings, summary, index, table).write(parsed, pages.count, documents)
        if not summary.entities.count:
            raise _nothing(dumps, "no entities", "a page with a text that is no redirect")
        _thin_out(table, settings, summary)
        if not summary.mentions.count:
            raise _nothing(dumps, "no mentions", "a link to another page whose text is not the title of that page")
        assign_splits(table, settings.shares, settings.split_by, settings.seed)
        entities = {settings.world: Input(documents, documents.name)}
        summary.splits, _ = write_mention_files(table, entities, data, with_contexts=False)
    if skipped.stat().st_size:
        (data / "skipped").mkdir()
        skipped.rename(data / "skipped" / f"pages-{settings.world}.jsonl")
    return summary


def _read(dumps: Sequence[Input], titles: Titles, settings: WikiSettings) -> Iterator[Page]:
    """Yields the pages of all parts, those of other namespaces without their text. Logs how far it is."""
    progress = Progress("dump bytes", max(sum(file.path.stat().st_size for file in dumps), 1), "pages", _LOG_SECONDS)
    size = 0
    for file in dumps:
        before = 0
        dump = Dump(file, settings.max_bytes, size)
        for pages, page in enumerate(dump.pages(), start=1):
            progress.update(dump.position - before, units=1, note=f"{pages:,} pages of {file.name}")
            before = dump.position
            is_wanted = (
                page.problem or page.redirect is not None or titles.of_page(page.title)[0] in settings.namespaces
            )
            yield page if is_wanted else replace(page, text="", problem=OTHER_NAMESPACE)
        size += dump.size


class _Pages:
    """Puts parsed pages into the index, and notes those that cannot be entities.

    Attributes:
        count: number of pages so far.
    """

    def __init__(self, summary: Summary, index: PageIndex, titles: Titles, skipped: IO[str]) -> None:
        self._summary, self._index, self._titles, self._skipped = summary, index, titles, skipped
        self._bad = BadLines("skipped")
        self.count = 0

    def add(self, path: Path) -> None:
        """Adds the pages of a file."""
        for line in read_chunk(path):
            self._add(line, line["id"], line["title"])
            self.count += 1

    def _add(self, line: dict[str, Any], page_id: str, title: str) -> None:
        redirect, problem = line.get("redirect"), line.get("problem", "")
        if not problem and has_control_characters(title):
            problem = "a control character in its title"
        if problem not in ("", OTHER_NAMESPACE, WITHOUT_TEXT):
            name = " ".join(filter(None, ("page", page_id, repr(title))))
            self._bad(DataError(f"{problem}: {name}", file=self._summary.world))
            self._skipped.write(to_json({"id": page_id, "title": title, "problem": problem}) + "\n")
        if not page_id or not title:
            self._summary.drop_page(problem, page_id, title)
            return
        key = self._titles.of_page(title)
        target = None if redirect is None else self._titles.of_page(redirect)
        is_new = self._index.add(self.count, Entity(page_id, title), key, target, has_text=not problem)
        reason = problem or ("" if is_new else SAME_TITLE) or ("" if redirect is None else "a redirect")
        if reason:
            self._summary.drop_page(reason, page_id, title)


class _Writer:
    """Writes entities, and puts their links into the table."""

    def __init__(self, settings: WikiSettings, summary: Summary, index: PageIndex, table: MentionTable) -> None:
        self._settings, self._summary, self._index, self._table = settings, summary, index, table
        table.database.execute("CREATE TABLE links (number INTEGER PRIMARY KEY, page TEXT, text TEXT, category TEXT)")

    def write(self, parsed: Sequence[Path], pages: int, documents: Path) -> None:
        """Writes the entities of all pages, in the order of the dump. Logs how far it is."""
        numbers, progress = count(), Progress("entities", max(pages, 1), "pages", _LOG_SECONDS)
        with documents.open("wb") as file:
            for path in parsed:
                for line, number in zip(read_chunk(path), numbers, strict=False):  # takes no number after the last line
                    progress.update()
                    if self._index.is_entity(number):
                        file.write(document_line(Document(line["id"], line["title"], line["text"])))
                        self._summary.entities.add(
                            line["id"], {"page": line["title"], "text": _beginning(line["text"])}
                        )
                        self._add_links(line)

    def _add_links(self, page: dict[str, Any]) -> None:
        for number, (reason, target, anchor) in enumerate(page["dropped"]):
            self._summary.drop_link(reason, page["title"], f"dropped {number}", target, anchor)
        rows = list(self._rows(page))
        if rows:
            text = self._table.add_text(self._settings.world, page["id"], page["text"])
            for row, around, category in rows:
                if self._table.add_mention(text, row):
                    query = "INSERT INTO links VALUES (last_insert_rowid(), ?, ?, ?)"
                    self._table.database.execute(query, (page["title"], around, category))

    def _rows(self, page: dict[str, Any]) -> Iterator[tuple[MentionRow, str, MentionCategory]]:
        """Yields the links that are mentions, each with the text around it and its category."""
        text, document_id = page["text"], page["id"]
        for start, end, namespace, name in page["links"]:
            entity = self._index.find(namespace, name)
            if isinstance(entity, Entity) and entity.document_id == document_id:
                entity = "to its own page"
            if isinstance(entity, str):
                self._summary.drop_link(entity, page["title"], f"{start}", name, text[start:end])
                continue
            mention_id = f"{self._settings.world}:{document_id}:{start}-{end}"
            category = mention_category(text[start:end], tokenized(entity.title)[0])
            around = _around(text, start, end)
            yield MentionRow(mention_id, entity.document_id, entity.title, start, end, None), around, category


def _around(text: str, start: int, end: int) -> str:
    """Returns a part of a text as tokens, in brackets, with some whole tokens before and after it."""
    before, after = text[max(start - _AROUND, 0) : start], text[end : end + _AROUND]
    before = before if start <= _AROUND else f"… {before.partition(' ')[2]}"
    after = after if end + _AROUND >= len(text) else f"{after.rpartition(' ')[0]} …"
    return f"{before}[[{text[start:end]}]]{after}"


def _thin_out(table: MentionTable, settings: WikiSettings, summary: Summary) -> None:
    """Removes mentions that are equal to their entity's title, all but a seeded share, and notes those that remain."""
    database, exact = table.database, "category = 'HIGH_OVERLAP'"
    joined = "links JOIN mentions ON links.number = mentions.number"
    (others,) = database.execute(f"SELECT count(*) FROM links WHERE NOT {exact}").fetchone()
    share = settings.exact_share
    most = -1 if share == 1 else round(others * share / (1 - share))
    database.execute("CREATE TABLE kept (number INTEGER PRIMARY KEY)")
    database.execute(
        f"INSERT INTO kept SELECT links.number FROM {joined} WHERE {exact} ORDER BY rank(?, id) LIMIT ?",
        (settings.seed, most),
    )
    database.execute(f"INSERT INTO kept SELECT number FROM links WHERE NOT {exact}")
    query = (
        f"SELECT id, page, links.text, category, title, kept.number IS NOT NULL FROM {joined} "
        "LEFT JOIN kept ON links.number = kept.number"
    )
    for mention_id, page, text, category, title, is_kept in table.rows(query):
        if is_kept:
            summary.mentions.add(mention_id, {"page": page, "text": text, "entity": title, "category": category})
            summary.categories[category] += 1
        else:
            summary.drop_link(EQUAL_TO_TITLE, page, mention_id, title, text)
    database.execute("DELETE FROM mentions WHERE number NOT IN (SELECT number FROM kept)")


def _beginning(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN].rpartition(' ')[0]} …"


def _nothing(dumps: Sequence[Input], problem: str, expected: str) -> DataError:
    return DataError(problem, file=", ".join(file.name for file in dumps), expected=expected)
