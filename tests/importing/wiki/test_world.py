"""``zeshel import-wiki`` makes a data set of a dump that ``download`` and ``convert`` take whole."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.importing.conftest import lines_of
from tests.importing.wiki.dumps import dump, page, towns
from tests.support.faults import Fault
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_DATA
from zeshel_tasks.importing.wiki.chunks import PageParser
from zeshel_tasks.importing.wiki.page import Page, Site
from zeshel_tasks.importing.wiki.parser import Parser
from zeshel_tasks.store import open_run

ALL_SPLITS = "train=0.5,valid=0.15,test=0.15,heldout_train_seen=0.1,heldout_train_unseen=0.1"
TABLE = "{|\n" + "|-\n| [[Vask]] || b || {{c|d}}\n" * 20_000 + "|}"
BRACES = "{{a|" * 12_000


def imported(tmp_path: Path, content: str, *flags: str, out: str = "data") -> int:
    path = tmp_path / "wiki.xml"
    path.write_text(content, encoding="utf-8")
    shares = () if "--shares" in flags else ("--shares", "train=1")
    return main(["import-wiki", str(path), "--world", "towns", "--out", str(tmp_path / out), *shares, *flags])


def report(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "data" / "report" / "import.json").read_text())
    return found


def reasons(tmp_path: Path, what: str) -> dict[str, int]:
    return {reason: found["count"] for reason, found in report(tmp_path)[what].items()}


def mentions(tmp_path: Path, file: str = "train") -> list[tuple[str, str]]:
    return [
        (line["text"], line["label_document_id"]) for line in lines_of(tmp_path / "data" / "mentions" / f"{file}.json")
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_mention_is_converted(tmp_path: Path) -> None:
    odd = [
        page(
            901,
            "Orlen (river)",
            "'''Orlen''' flows past [[Vask|V.A.S.K.]]'s quay, [[東京]]は、 [[עיר|הבירה]] &#xD800; [[Vask|\u200bx]]",
        ),
        page(902, "Vask", "x[[Orlen (river)|Orl]]enhafen-[[東京|a\u00a0b]]…[[Orlen (river)#Mouth|…]]"),
        page(903, "東京", "[[Vask]]であり[[Orlen (river)|]]。"),
        page(904, "עיר", "\u200f[[Vask|\u202bא\u202c]], [[Orlen (river)|e\u0301]]"),
    ]
    assert (
        imported(tmp_path, towns().replace("</mediawiki>", "".join(odd) + "</mediawiki>"), "--shares", ALL_SPLITS) == 0
    )
    run = str(tmp_path / "store" / "runs" / "first")
    assert main(["download", "--run", run, "--source", str(tmp_path / "data")]) == 0
    assert main(["convert", "--run", run, "--on_bad_mention", "fail"]) == 0
    convert = open_run(run).manifest("convert")
    assert convert is not None
    assert convert.metrics["mentions"] == report(tmp_path)["mentions"]["splits"]
    assert len(convert.metrics["mentions"]) == 5
    assert sum(convert.metrics["mentions"].values()) == report(tmp_path)["mentions"]["count"] > 480


def test_document_begins_with_its_title_and_contains_its_mentions(tmp_path: Path) -> None:
    pages = [
        page(7, "Vask (ferry)", "A '''ferry''' of [[Orlen]]'s."),
        page(8, "Orlen", "A [[Vask (ferry)|boat]]ing town."),
    ]
    assert imported(tmp_path, dump(pages), "--exact-share", "1") == 0
    assert lines_of(tmp_path / "data" / "documents" / "towns.json") == [
        {"document_id": "7", "title": "Vask (ferry)", "text": "Vask ( ferry ) A ferry of Orlen ' s ."},
        {"document_id": "8", "title": "Orlen", "text": "Orlen A boating town ."},
    ]
    assert lines_of(tmp_path / "data" / "mentions" / "train.json") == [
        {
            "mention_id": "towns:7:26-31", "context_document_id": "7", "corpus": "towns",
            "start_index": 7, "end_index": 7, "text": "Orlen", "label_document_id": "8", "category": "HIGH_OVERLAP",
        },
        {
            "mention_id": "towns:8:8-15", "context_document_id": "8", "corpus": "towns",
            "start_index": 2, "end_index": 2, "text": "boating", "label_document_id": "7", "category": "LOW_OVERLAP",
        },
    ]  # fmt: skip


def test_links_lead_over_redirects_to_entities(tmp_path: Path) -> None:
    targets = [
        "B",
        "C",
        "Loop",
        "Nowhere",
        "Missing",
        "Vask",
        "Kategorie:Ferries",
        "Diskussion:Orlen",
        "To talk",
        "Empty",
    ]
    pages = [
        page(1, "Vask", " ".join(f"[[{target}|t{number}]]" for number, target in enumerate(targets))),
        page(2, "Orlen", "[[:Vask|x]] text"),
        page(3, "A", "", redirect="orlen#River"),
        page(4, "B", "", redirect="A"),
        page(5, "C", "", redirect="vask"),
        page(6, "Loop", "", redirect="Loop2"),
        page(7, "Loop2", "", redirect="Loop"),
        page(8, "Nowhere", "", redirect="Missing"),
        page(9, "Diskussion:Orlen", "[[Vask|not counted]]"),
        page(10, "To talk", "", redirect="Diskussion:Orlen"),
        page(11, "Empty", "{{box}}"),
    ]
    assert imported(tmp_path, dump(pages)) == 0
    assert mentions(tmp_path) == [("t0", "2"), ("x", "1")]
    assert reasons(tmp_path, "links_dropped") == {
        "to a page that is no entity": 3,
        "to its own page": 2,
        "to no page of the dump": 1,
        "a redirect to no page": 1,
        "redirects in a circle": 1,
        "puts the page into a category": 1,
    }
    assert reasons(tmp_path, "pages_dropped") == {"a redirect": 7, "in another namespace": 1, "without a text": 1}


def test_other_namespaces_may_have_entities(tmp_path: Path) -> None:
    pages = [page(1, "Vask", "[[:Kategorie:Ferries|boats]]"), page(2, "Kategorie:Ferries", "Boats like [[Vask|this]].")]
    assert imported(tmp_path, dump(pages), "--namespaces", "0", "14") == 0
    assert mentions(tmp_path) == [("boats", "2"), ("this", "1")]


@pytest.mark.parametrize(("share", "expected"), [("0.05", 25), ("0", 0), ("0.5", 240), ("1", 240)])
def test_mentions_equal_to_titles_are_thinned_out(share: str, expected: int, tmp_path: Path) -> None:
    assert imported(tmp_path, towns(), "--exact-share", share) == 0
    categories = Counter(line["category"] for line in lines_of(tmp_path / "data" / "mentions" / "train.json"))
    assert categories["HIGH_OVERLAP"] <= expected
    dropped = reasons(tmp_path, "links_dropped")
    thinned = dropped.get("equal to the title, and above the share of such mentions", 0)
    assert categories["HIGH_OVERLAP"] + thinned + dropped.get("to its own page", 0) >= 240
    if share == "0.05":
        assert categories["HIGH_OVERLAP"] / sum(categories.values()) == pytest.approx(0.05, abs=0.002)


def test_seed_chooses_the_mentions_that_stay(tmp_path: Path) -> None:
    for seed in ("7", "8"):
        assert imported(tmp_path, towns(), "--seed", seed, out=f"data{seed}") == 0
    first, second = (
        {line["mention_id"] for line in lines_of(tmp_path / f"data{seed}" / "mentions" / "train.json")} for seed in "78"
    )
    assert first != second
    assert len(first) == len(second)


def test_unseen_entities_have_no_mention_in_train(tmp_path: Path) -> None:
    assert imported(tmp_path, towns(), "--shares", ALL_SPLITS) == 0
    train, seen, unseen = (
        {gold for _, gold in mentions(tmp_path, file)}
        for file in ("train", "heldout_train_seen", "heldout_train_unseen")
    )
    assert unseen
    assert not unseen & train
    assert seen <= train


def test_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    content = towns(450)
    for out, processes in (("one", "1"), ("three", "3")):
        assert imported(tmp_path, content, "--shares", ALL_SPLITS, "--processes", processes, out=out) == 0
    assert files_of(tmp_path / "one") == files_of(tmp_path / "three")
    assert len(files_of(tmp_path / "one")) == 3 + 5 + 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "three", "wiki.xml"]


def test_killed_import_goes_on_where_it_was(tmp_path: Path, fault: Fault) -> None:
    content = towns(900)
    assert imported(tmp_path, content, out="whole") == 0
    command = [sys.executable, "-m", "zeshel_tasks", "import-wiki", str(tmp_path / "wiki.xml"), "--world", "towns"]
    command += ["--out", str(tmp_path / "data"), "--shares", "train=1"]
    killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    parsed = tmp_path / ".data-parsed"
    while not list(parsed.glob("*.jsonl")):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    fault("input: import of a wiki killed while it parsed")
    before = {path.name: path.stat().st_ino for path in parsed.glob("*.jsonl")}
    assert 0 < len(before) < 5
    assert not (tmp_path / "data").exists()
    work = tmp_path / "work"
    parsed.rename(work)
    assert imported(tmp_path, content, "--work", str(work)) == 0
    assert files_of(tmp_path / "data") == files_of(tmp_path / "whole")
    after = {path.name: path.stat().st_ino for path in work.glob("*.jsonl")}
    assert len(after) == 5
    assert before.items() <= after.items()


def test_only_changed_pages_are_parsed_again(tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert imported(tmp_path, towns(900), "--work", str(work)) == 0
    before = set(work.iterdir())
    changed = towns(900).replace("</mediawiki>", page(5000, "New", "[[Town 1|one]]") + "</mediawiki>")
    assert imported(tmp_path, changed, "--work", str(work), out="later") == 0
    assert len(set(work.iterdir()) - before) == 1


@pytest.mark.parametrize(
    ("limits", "text", "problem"),
    [({"seconds": 1}, BRACES, "needs more than 1 s"), ({"memory_mb": 100}, TABLE, "needs more than 100 MB")],
    ids=["time", "memory"],
)
def test_page_that_takes_too_much_ends_only_its_parser(
    limits: dict[str, int], text: str, problem: str, fault: Fault
) -> None:
    fault("input: page of a wiki that takes too much time or memory")
    parser = Parser(Site(), **limits)
    try:
        assert parser.parse(Page("1", "Bad", text)) == {"problem": problem}
        assert parser.parse(Page("2", "Good", "[[vask]]"))["links"] == [[5, 9, 0, "Vask"]]
    finally:
        parser.close()


def test_page_is_not_blamed_for_the_end_of_its_parser(fault: Fault) -> None:
    parser = Parser(Site())
    try:
        parser.parse(Page("1", "A", "a"))
        (child,) = (found for found in psutil.Process().children() if "wiki.child" in " ".join(found.cmdline()))
        child.kill()
        fault("input: parser of a wiki killed from outside")
        assert parser.parse(Page("2", "B", "b"))["text"] == "B b"
    finally:
        parser.close()


def test_stopped_parser_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    pages = [Page("1", "A", "a"), Page("2", "B", BRACES)]
    parser = PageParser(Site(), tmp_path, 1)
    threading.Timer(2.0, parser._parsers[0].stop).start()
    with pytest.raises(RuntimeError, match="the import was stopped"):
        list(parser.parsed(pages))
    assert not list(tmp_path.glob("*.jsonl"))


def test_page_that_is_skipped_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pages = [page(1, "Vask", "[[Orlen|x]] [[Bad|y]]"), "<page><title>Bad</title><id>2</id>", page(3, "Orlen", "z")]
    assert imported(tmp_path, dump(pages)) == 0
    assert "skipped: towns: a closing tag is missing: page 'Bad'" in capsys.readouterr().out
    (line,) = lines_of(tmp_path / "data" / "skipped" / "pages-towns.jsonl")
    assert line == {"id": "", "title": "Bad", "problem": "a closing tag is missing"}
    assert reasons(tmp_path, "pages_dropped") == {"a closing tag is missing": 1}
    assert reasons(tmp_path, "links_dropped") == {"to no page of the dump": 1}


def test_number_of_reasons_is_bounded(tmp_path: Path) -> None:
    odd = [page(number, f"Odd {number}", "x", model=f"model {number} {'y' * 99}") for number in range(10, 210)]
    assert imported(tmp_path, dump([page(1, "Vask", "[[Orlen|x]]"), page(2, "Orlen", "a"), *odd])) == 0
    found = reasons(tmp_path, "pages_dropped")
    assert found.pop("other reasons") == 100
    assert len(found) == 100
    assert max(map(len, found)) < 60


def test_two_pages_of_a_title_or_an_id(tmp_path: Path) -> None:
    pages = [page(1, "Vask", "[[Orlen|x]]"), page(2, "Orlen", "a"), page(3, "orlen", "b"), page(2, "Other", "c")]
    assert imported(tmp_path, dump(pages)) == 0
    assert mentions(tmp_path) == [("x", "2")]
    assert reasons(tmp_path, "pages_dropped") == {"the title or the id of another page": 2}


def test_parts_of_a_dump_are_one_world(tmp_path: Path) -> None:
    for name, content in (("a", page(1, "Vask", "[[Orlen|x]]")), ("b", page(2, "Orlen", "[[Vask|y]]"))):
        (tmp_path / name).write_text(dump([content]))
    out = ["--world", "towns", "--out", str(tmp_path / "data"), "--shares", "train=1"]
    assert main(["import-wiki", str(tmp_path / "a"), str(tmp_path / "b"), *out]) == 0
    assert mentions(tmp_path) == [("x", "2"), ("y", "1")]


@pytest.mark.parametrize(("content", "message"), [
    (dump([page(1, "A", "", redirect="B"), page(2, "B", "", redirect="A")]), "no entities; expected a page with"),
    (dump([page(1, "A", "[[B]]"), page(2, "B", "text")]), "no mentions; expected a link to another page"),
    (dump([]), "no entities"),
    (dump([page(1, "A", "[[B|x]]"), page(2, "B", "text")]).removesuffix("</mediawiki>\n"), "the dump is cut"),
], ids=["redirects", "titles", "empty", "cut"])  # fmt: skip
def test_dump_of_which_nothing_can_be_made(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert imported(tmp_path, content) == EXIT_DATA
    assert message in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_too_few_texts_for_the_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        imported(tmp_path, dump([page(1, "A", "[[B|x]]"), page(2, "B", "t")]), "--shares", "train=.8,valid=.2")
        == EXIT_CONFIG
    )
    assert "--shares: expected 2 documents for train, valid, got 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags", [("--exact-share", "2"), ("--exact-share", "x"), ("--processes", "0"), ("--namespaces", "x")]
)
def test_wrong_settings_are_refused(flags: tuple[str, str], tmp_path: Path) -> None:
    assert imported(tmp_path, towns(), *flags) == EXIT_CONFIG


def test_temporary_files_are_in_the_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZESHEL_SCRATCH", str(tmp_path / "missing"))
    assert imported(tmp_path, towns(9)) == EXIT_CONFIG
    assert "ZESHEL_SCRATCH: expected a directory" in capsys.readouterr().out


def test_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("zeshel_tasks.importing.wiki.parser.find_spec", lambda _: None)
    assert imported(tmp_path, towns()) == EXIT_CONFIG
    assert "mwparserfromhell: expected this package" in capsys.readouterr().out


def test_report_shows_samples_as_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    pages = [
        page(number, f"{number} {hostile}", f"[[1 A|x]] [[Missing {number}|{hostile} &lt;b&gt;]]")
        for number in range(2, 60)
    ]
    assert imported(tmp_path, dump([page(1, "1 A", "text"), *pages])) == 0
    html = (tmp_path / "data" / "report" / "index.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    found = report(tmp_path)
    assert found["mentions"]["count"] == 58
    assert [len(part["samples"]) for part in (found["mentions"], found["links_dropped"]["to no page of the dump"])] == [
        20,
        20,
    ]


def test_parsers_end_with_the_import(tmp_path: Path) -> None:
    before = psutil.Process().children()
    pages = (Page(str(number), f"P{number}", "text") for number in range(10_000))
    found = PageParser(Site(), tmp_path, 2).parsed(pages)
    next(found)
    assert set(psutil.Process().children()) - set(before)
    found.close()
    assert not set(psutil.Process().children()) - set(before)
