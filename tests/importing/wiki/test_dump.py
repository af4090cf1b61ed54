"""Pages of dumps as they are: damaged, odd, long and cut."""

import bz2
import gzip
import re
from itertools import count
from pathlib import Path

import py7zr
import pytest

from tests.importing.wiki.dumps import dump, page, revision
from tests.support.faults import Fault
from zeshel_tasks.errors import DataError
from zeshel_tasks.importing.inputs import Input
from zeshel_tasks.importing.wiki import dump as module
from zeshel_tasks.importing.wiki.dump import Dump
from zeshel_tasks.importing.wiki.page import Page

TWO = dump([page(7, "Vask", "a & <b> [[Orlen]]"), page(8, "Orlen", "", redirect="Vask#x")])
READ = [Page("7", "Vask", "a & <b> [[Orlen]]"), Page("8", "Orlen", redirect="Vask#x")]


def written(tmp_path: Path, content: str | bytes, name: str = "wiki.xml") -> Dump:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Dump(Input(path, name))


def pages(tmp_path: Path, content: str | bytes) -> list[Page]:
    return list(written(tmp_path, content).pages())


@pytest.mark.parametrize("compress", [bytes, bz2.compress, gzip.compress], ids=["plain", "bz2", "gz"])
def test_pages_of_a_compressed_dump(compress: type[bytes], tmp_path: Path) -> None:
    assert pages(tmp_path, compress(TWO.encode())) == READ


def test_pages_of_a_7z_archive(tmp_path: Path) -> None:
    with py7zr.SevenZipFile(tmp_path / "wiki.7z", "w") as archive:
        archive.writestr(TWO, "wiki.xml")
    assert list(Dump(Input(tmp_path / "wiki.7z", "wiki.7z")).pages()) == READ


def test_archive_with_two_files_is_refused(tmp_path: Path) -> None:
    with py7zr.SevenZipFile(tmp_path / "wiki.7z", "w") as archive:
        archive.writestr(TWO, "a.xml")
        archive.writestr(TWO, "b.xml")
    with pytest.raises(DataError, match="expected one file in the archive, got 2"):
        list(Dump(Input(tmp_path / "wiki.7z", "wiki.7z")).pages())


def test_reading_of_an_archive_may_end_early(tmp_path: Path) -> None:
    content = dump(page(number, f"P {number}", "word " * 100_000) for number in range(20))
    with py7zr.SevenZipFile(tmp_path / "wiki.7z", "w") as archive:
        archive.writestr(content, "wiki.xml")
    found = Dump(Input(tmp_path / "wiki.7z", "wiki.7z"))
    assert found.site().namespaces[6] == "Datei"  # in the first of ten megabytes
    assert len(list(found.pages())) == 20


def test_namespaces_and_case_of_the_wiki(tmp_path: Path) -> None:
    site = written(tmp_path, dump([], case="case-sensitive")).site()
    assert site.namespaces[14] == "Kategorie"
    assert {0, 14} <= site.case_sensitive
    assert written(tmp_path, TWO).site().case_sensitive == frozenset()
    assert written(tmp_path, f"<mediawiki>{page(7, 'a', 'b')}</mediawiki>").site().namespaces == {}


@pytest.mark.parametrize("cut", ["</mediawiki>", "</page>\n</mediawiki>", "xml:space", "<title>Orlen"])
def test_cut_dump_says_how_far_it_came(cut: str, tmp_path: Path, fault: Fault) -> None:
    fault("input: cut dump of a wiki")
    count = 2 if cut == "</mediawiki>" else 1
    last = "Orlen" if count == 2 else "Vask"
    with pytest.raises(DataError, match=rf"wiki.xml: the dump is cut; .* got the end after {count} pages.*'{last}'"):
        pages(tmp_path, TWO[: TWO.rindex(cut)])


def test_dump_that_is_cut_before_its_first_page_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"damaged or cut: .*; expected bzip2 data; got the end after 0 pages$"):
        written(tmp_path, bz2.compress(TWO.encode())[:-5]).site()


@pytest.mark.parametrize("compress", [bz2.compress, gzip.compress], ids=["bz2", "gz"])
def test_cut_compressed_dump_says_how_far_it_came(compress: type[bytes], tmp_path: Path, fault: Fault) -> None:
    fault("input: cut dump of a wiki")
    many = compress(dump(page(number, f"P{number}", "text") for number in range(20_000)).encode())
    with pytest.raises(DataError, match=r"damaged or cut: .*; got the end after [0-9,]+ pages, the last one 'P[0-9]+'"):
        pages(tmp_path, many[: len(many) - 500])


@pytest.mark.parametrize(
    "content", ["", "<html></html>", '{"a": 1}', TWO.encode("utf-16").decode("latin-1"), "<page>" * 9, "x" * 3_000_000]
)
def test_file_that_is_no_dump_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"wiki\.xml: no dump of a MediaWiki; expected an XML file with <mediawiki>"):
        pages(tmp_path, content)


@pytest.mark.parametrize(
    ("page_with_a_fault", "problem"),
    [
        ("<page><title>Bad</title><id>1</id>", "a closing tag is missing"),
        ("<page><title>Bad</title><id>1</id><revision><text>x</text></page>", "a closing tag is missing"),
        ("<page><title>Bad</title><id>1</id><revision><text>x</revision></page>", "broken XML: mismatched tag"),
        ("<page><title>Bad</title><id>1</id><revision><text>&nbsp;</text></revision></page>", "broken XML: undefined"),
        ("<page><title>Bad</title><revision><text>x</text></revision></page>", "no title or no id"),
        ("<page><title>Bad</title><id>-1</id><revision><text>x</text></revision></page>", "no title or no id"),
        (f"<page><title>Bad</title><id>{'9' * 5000}</id><revision><text/></revision></page>", "no title or no id"),
        (page(1, "Bad", "a {}", model="json"), "no wikitext: json"),
        (page(1, "Bad", "x" * 2**22 + "x"), "more than 4,194,304 characters"),
    ],
    ids=count(),
)
def test_damaged_page_costs_only_itself(page_with_a_fault: str, problem: str, tmp_path: Path, fault: Fault) -> None:
    fault("input: damaged page of a wiki")
    content = dump([page(7, "Vask", "a"), page_with_a_fault, page(8, "Orlen", "b")])
    first, bad, last = pages(tmp_path, content)
    assert (first.title, bad.title, last.title) == ("Vask", "Bad", "Orlen")
    assert bad.problem.startswith(problem)
    assert not first.problem
    assert not last.problem


def test_title_longer_than_any_of_mediawiki_is_refused(tmp_path: Path) -> None:
    (found,) = pages(tmp_path, dump([page(1, "é" * 257, "x")]))
    assert found.problem == "a title of more than 512 bytes"


def test_entities_of_a_document_type_are_never_read(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    head = (
        f'<?xml version="1.0"?><!DOCTYPE mediawiki [<!ENTITY l0 "ha">{laughs}<!ENTITY f SYSTEM "file:///etc/passwd">]>'
    )
    bad = "<page><title>Bad</title><id>1</id><revision><text>{}</text></revision></page>"
    found = pages(tmp_path, head + dump([bad.format("&l11;"), bad.format("&f;"), page(7, "Vask", "a")]))
    assert all(one.problem == "broken XML: undefined entity" for one in found[:2])
    assert found[2] == Page("7", "Vask", "a")


def test_latest_revision_counts(tmp_path: Path) -> None:
    revisions = (
        revision("old", "2024-01-01T00:00:00Z"),
        revision("new", "2026-01-01T00:00:00Z"),
        revision("mid", "2025"),
    )
    content = f"<page><title>Vask</title><id>7</id>{''.join(revisions)}</page>"
    assert pages(tmp_path, dump([content])) == [Page("7", "Vask", "new")]


def test_only_one_revision_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REVISION_BYTES", 2**20)
    monkeypatch.setattr(module, "_BLOCK", 2**16)
    many = "".join(revision("x" * 2**19, f"2026-01-{day:02}") for day in range(1, 29))
    long = "".join(revision("y" * size, f"2026-01-{size}") for size in (1, 2**21))
    content = [
        f"<page><title>{title}</title><id>{key}</id>{text}</page>"
        for title, key, text in (("A", 1, many), ("B", 2, long))
    ]
    first, second = pages(tmp_path, dump(content))
    assert (len(first.text), first.problem) == (2**19, "")
    assert second.problem == "a revision of more than 1,048,576 bytes"


def test_characters_that_xml_does_not_have_are_replaced(tmp_path: Path) -> None:
    raw = dump([page(7, "Vask", "a@b")]).encode()
    for odd in (
        b"&#0;",
        b"&#x0;",
        b"\0",
        b"&#xD800;",
        b"&#55296;",
        b"\xed\xa0\x80",
        b"\xff",
        b"&#x110000;",
        b"\x0b",
        b"&#xFFFE;",
    ):
        (found,) = pages(tmp_path, raw.replace(b"@", odd))
        assert found.problem == ""
        assert re.fullmatch("a\ufffd+b", found.text)
    assert pages(tmp_path, raw.replace(b"@", b"&#x1F600;"))[0].text == "a😀b"


def test_redirects_of_old_dumps(tmp_path: Path) -> None:
    content = dump([page(7, "Vask", "#REDIRECT [[Orlen (river)|x]]"), page(8, "B", " #redirect: [[Orlen]]")])
    assert [found.redirect for found in pages(tmp_path, content)] == ["Orlen (river)", "Orlen"]


def test_deleted_text_and_odd_titles(tmp_path: Path) -> None:
    deleted = '<page><title> A  &amp; B </title><id>7</id><revision><text deleted="deleted" /></revision></page>'
    assert pages(tmp_path, dump([deleted, page(8, "עיר (東京)", "x")])) == [
        Page("7", "A & B"),
        Page("8", "עיר (東京)", "x"),
    ]


def test_tags_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 2, 7, 16, 17, 64):
        monkeypatch.setattr(module, "_BLOCK", size)
        assert pages(tmp_path, TWO) == READ
