"""Compares the links that ``import-wiki`` finds with those of WikiExtractor 3.1.0.

    python -m pip install --target extractor wikiextractor==3.1.0
    python -m bench.wiki --wikiextractor extractor [--pages 1000] [--texts FILE_OR_FOLDER...] [--show 15] [--seed 7]

WikiExtractor runs in a process of its own and is no dependency: it is under the AGPL. The generated pages lack what it
reads otherwise than MediaWiki: links within ``<nowiki>``, which it takes for links, ``<small>``, whose text it drops,
and spaces around a target, after which it keeps a space in the anchor. ``--texts`` adds packaged pages: the files
``*.wiki`` and ``*.mediawiki``, the inputs in ``*.mwtest`` files of mwparserfromhell's source distribution, and those in
``*.txt`` files of MediaWiki's parser tests. A link is the same if page, target and anchor are. Exits with 1 if fewer
than 99% of WikiExtractor's links on the generated pages are found.

``bench.wiki.parser_tests`` compares with MediaWiki itself, ``bench.wiki.memory`` measures memory and speed.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from bench.wiki.pages import Wikitext, write_dump
from bench.wiki.parser_tests import read_tests
from zeshel_tasks.data.raw_text import tokenized
from zeshel_tasks.importing.wiki.page import Page, Site
from zeshel_tasks.importing.wiki.parser import Parser
from zeshel_tasks.importing.wiki.titles import Titles

WANTED = 0.99
_MWTEST_INPUT = re.compile(r'^input:\s*"(.*)"$', re.MULTILINE)
_ANCHOR = re.compile(r'<a href="([^"]*)">(.*?)</a>([a-z]*)', re.DOTALL)

Link = tuple[str, str]
"""Title of the target, and the anchor as tokens."""


def main() -> int:
    """Compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wikiextractor", type=Path, required=True, help="folder with the package")
    parser.add_argument("--pages", type=int, default=1000, help="number of generated pages")
    parser.add_argument("--texts", nargs="+", type=Path, default=[], help="files or folders with more pages")
    parser.add_argument("--show", type=int, default=15, help="number of samples of each kind of difference")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    written = Wikitext(options.seed)
    share = 1.0
    for what, texts in (
        ("generated", [written.page() for _ in range(options.pages)]),
        ("packaged", [text for path in options.texts for text in _texts(path)]),
    ):
        if texts:
            with tempfile.TemporaryDirectory() as name:
                pages = {f"Page {number}": text for number, text in enumerate(texts, start=1)}
                found = _compared(what, Path(name), pages, options.wikiextractor, options.show)
            share = found if what == "generated" else share
    return int(share < WANTED)


def _texts(path: Path) -> Iterator[str]:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.suffix in (".wiki", ".mediawiki"):
            yield file.read_text(encoding="utf-8")
        if file.suffix == ".txt":
            yield from (test.wikitext for test in read_tests(file.read_text(encoding="utf-8")))
        if file.suffix == ".mwtest":
            for found in _MWTEST_INPUT.finditer(file.read_text(encoding="utf-8")):
                yield found[1].encode("latin-1", "backslashreplace").decode("unicode_escape")


def _compared(what: str, folder: Path, texts: dict[str, str], extractor: Path, show: int) -> float:
    titles = Titles(Site())
    theirs, (ours, dropped) = _theirs(folder, texts, extractor, titles), _ours(texts, titles)
    found = total = extra = 0
    differences = defaultdict[str, list[str]](list)
    for title, text in texts.items():
        found += (theirs[title] & ours[title]).total()
        total += theirs[title].total()
        extra += (ours[title] - theirs[title]).total()
        for link in (theirs[title] - ours[title]).elements():
            others = [anchor for target, anchor in ours[title] - theirs[title] if target == link[0]]
            reason = dropped[title].get(link[0]) or ("another anchor" if others else "not here")
            differences[reason].append(f"[[{link[0]}|{link[1]}]], here {', '.join(others) or 'none'}: {text[:300]!r}")
    print(
        f"{len(texts):,} {what} pages, {total:,} links of WikiExtractor: {found:,} the same, {found / total:.2%}; "
        f"{extra:,} only here"
    )
    for reason, samples in sorted(differences.items(), key=lambda item: -len(item[1])):
        print(f"  {len(samples):,} {reason}", *samples[:show], sep="\n    ")
    return found / total


def _ours(texts: dict[str, str], titles: Titles) -> tuple[dict[str, Counter[Link]], dict[str, dict[str, str]]]:
    """The links of each page, and why the links to a target were left out."""
    parser, found, dropped = Parser(Site()), dict[str, Counter[Link]](), dict[str, dict[str, str]]()
    for number, (title, text) in enumerate(texts.items()):
        answer = parser.parse(Page(str(number), title, text))
        links = (
            (name, _tokens(answer["text"][start:end]))
            for start, end, namespace, name in answer.get("links", ())
            if not namespace
        )
        found[title] = Counter(links)
        dropped[title] = {titles.of_link(target).name: reason for reason, target, _ in answer.get("dropped", ())}
    parser.close()
    return found, dropped


def _theirs(folder: Path, texts: dict[str, str], extractor: Path, titles: Titles) -> dict[str, Counter[Link]]:
    dump, out = folder / "wiki.xml", folder / "out"
    write_dump(dump, texts.items())
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


if __name__ == "__main__":
    sys.exit(main())
