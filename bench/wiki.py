"""Compares the links that ``import-wiki`` finds with those of WikiExtractor 3.1.0, and measures speed and memory.

    python -m pip install --target extractor wikiextractor==3.1.0
    python -m bench.wiki --wikiextractor extractor [--pages 1000] [--texts FOLDER] [--seed 7]
    python -m bench.wiki --memory [--pages 100000] [--allowed 1000]

WikiExtractor runs in a process of its own and is no dependency: it is under the AGPL. The pages are generated, and
They lack what WikiExtractor reads otherwise than MediaWiki: links within ``<nowiki>``, which it takes for links,
``<small>``, whose text it drops, and spaces around a target, after which it keeps a space in the anchor.
``--texts`` adds those of a folder: files ``*.wiki`` and ``*.mediawiki``, and the inputs in ``*.mwtest`` files of
mwparserfromhell's source distribution. A link is the same if page, target and anchor are. Exits with 1 if fewer than
99% of WikiExtractor's links are found, or if the peak memory exceeds ``--allowed`` MB.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

import psutil

from zeshel_tasks.data.raw_text import tokenized
from zeshel_tasks.importing.wiki.page import Page, Site
from zeshel_tasks.importing.wiki.parser import Parser
from zeshel_tasks.importing.wiki.titles import Titles

WANTED = 0.99
_SHOWN = 15
_MWTEST_INPUT = re.compile(r'^input:\s*"(.*)"$', re.MULTILINE)
_ANCHOR = re.compile(r'<a href="([^"]*)">(.*?)</a>([a-z]*)', re.DOTALL)
_WORDS = ("the", "town", "river", "of", "harbour", "old", "lies", "near", "1907", "naïve", "Ωmega", "город", "mill's")
_NAMES = ("Vask", "Orlen (river)", "Café Noir", "Straße 9", "Орлен", "東京", "St. John's", "R&D", "old mill", "A/B")

Link = tuple[str, str]
"""Title of the target, and the anchor as tokens."""


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
        name = self._random.choice(_NAMES)
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


def main() -> int:
    """Compares, or measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wikiextractor", type=Path, help="folder with the package")
    parser.add_argument("--memory", action="store_true", help="measure an import instead")
    parser.add_argument("--pages", type=int, default=1000, help="number of generated pages")
    parser.add_argument("--texts", type=Path, help="folder with more pages")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--allowed", type=int, default=1000, help="peak memory in MB of all processes together")
    options = parser.parse_args()
    written = Wikitext(options.seed)
    generated = (written.page() for _ in range(options.pages))
    with tempfile.TemporaryDirectory() as name:
        if options.memory:
            return int(_measured(Path(name), generated) > options.allowed)
        texts = {f"Page {number}": text for number, text in enumerate((*generated, *_texts(options.texts)), start=1)}
        return int(_compared(Path(name), texts, options.wikiextractor) < WANTED)


def _texts(folder: Path | None) -> Iterator[str]:
    for path in sorted(folder.rglob("*")) if folder is not None else ():
        if path.suffix in (".wiki", ".mediawiki"):
            yield path.read_text(encoding="utf-8")
        if path.suffix == ".mwtest":
            for found in _MWTEST_INPUT.finditer(path.read_text(encoding="utf-8")):
                yield found[1].encode("latin-1", "backslashreplace").decode("unicode_escape")


def _compared(folder: Path, texts: dict[str, str], extractor: Path) -> float:
    titles = Titles(Site())
    theirs, ours = _theirs(folder, texts, extractor, titles), _ours(texts)
    found = total = extra = 0
    reasons = Counter[str]()
    missing: list[tuple[str, Link]] = []
    for title in texts:
        found += (theirs[title] & ours[title]).total()
        total += theirs[title].total()
        extra += (ours[title] - theirs[title]).total()
        missing += [(title, link) for link in (theirs[title] - ours[title]).elements()]
        reasons.update(_reason(link, ours[title]) for link in (theirs[title] - ours[title]).elements())
    print(
        f"{len(texts):,} pages, {total:,} links of WikiExtractor: {found:,} the same, {found / total:.2%}; "
        f"{extra:,} only here"
    )
    for reason, number in reasons.most_common():
        print(f"  {number:,} {reason}")
    for title, (target, anchor) in missing[:_SHOWN]:
        others = [other for name, other in ours[title] - theirs[title] if name == target]
        print(f"  {title}: [[{target}|{anchor}]], here {', '.join(others) or 'none'}")
    return found / total


def _reason(link: Link, ours: Counter[Link]) -> str:
    if any(target == link[0] for target, _ in ours):
        return "another anchor, or another link to the page only there"
    return "a target that is only there"


def _ours(texts: dict[str, str]) -> dict[str, Counter[Link]]:
    parser, found = Parser(Site()), dict[str, Counter[Link]]()
    for number, (title, text) in enumerate(texts.items()):
        answer = parser.parse(Page(str(number), title, text))
        links = (
            (name, _tokens(answer["text"][start:end]))
            for start, end, namespace, name in answer.get("links", ())
            if not namespace
        )
        found[title] = Counter(links)
    parser.close()
    return found


def _theirs(folder: Path, texts: dict[str, str], extractor: Path, titles: Titles) -> dict[str, Counter[Link]]:
    dump, out = folder / "wiki.xml", folder / "out"
    _write(dump, texts.items())
    command = [sys.executable, "-m", "wikiextractor.WikiExtractor", str(dump), "--links", "--no-templates", "--json"]
    subprocess.run(
        [*command, "-o", str(out)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(extractor)},
        stderr=subprocess.DEVNULL,
    )
    found = {title: Counter[Link]() for title in texts}
    for path in out.rglob("wiki_*"):
        for line in path.read_text(encoding="utf-8").splitlines():
            page = json.loads(line)
            found[html.unescape(page["title"])].update(_links(html.unescape(page["text"]), titles))
    return found


def _links(text: str, titles: Titles) -> Iterator[Link]:
    """WikiExtractor's links as ours: letters after a link are part of it, and italics have no quotation marks."""
    for href, anchor, trail in _ANCHOR.findall(text):
        target = titles.of_link(html.unescape(html.unescape(unquote(href))))
        if "://" not in unquote(href) and target.kind == "page" and not target.namespace:
            yield target.name, _tokens(html.unescape(anchor) + trail)


def _tokens(anchor: str) -> str:
    return tokenized(anchor.replace('"', ""))[0]


def _write(path: Path, texts: Iterable[tuple[str, str]]) -> None:
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


def _measured(folder: Path, generated: Iterable[str]) -> float:
    """Imports generated pages; prints and returns the peak memory in MB of all processes together."""
    dump = folder / "wiki.xml"
    titles = iter(_NAMES)
    _write(dump, ((next(titles, f"Page {number}"), text) for number, text in enumerate(generated)))
    command = [
        sys.executable,
        "-m",
        "zeshel_tasks",
        "import-wiki",
        str(dump),
        "--world",
        "w",
        "--out",
        str(folder / "data"),
    ]
    started = time.monotonic()
    with subprocess.Popen(command) as process:
        peak = _Peak(process.pid)
        peak.start()
        if process.wait():
            raise SystemExit(f"import-wiki: expected exit code 0, got {process.returncode}")
    seconds = time.monotonic() - started
    print(f"{dump.stat().st_size / 1e6:,.0f} MB in {seconds:,.0f} s, peak {peak.megabytes:,.0f} MB of all processes")
    return peak.megabytes


class _Peak(threading.Thread):
    """Watches the memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.megabytes = 0.0
        self._process = psutil.Process(pid)

    def run(self) -> None:
        """Looks until the process ends."""
        while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
            try:
                processes = [self._process, *self._process.children(recursive=True)]
                used = sum(process.memory_info().rss for process in processes) / 1e6
            except psutil.NoSuchProcess:
                continue
            self.megabytes = max(self.megabytes, used)
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
