"""Parsed pages outlive an attempt of ``download``, and nothing else."""

import logging
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.importing.wiki.dumps import towns
from tests.store.wrapped import WrappedStore
from tests.support.faults import Fault
from zeshel_tasks.cli import main
from zeshel_tasks.download.metrics import DownloadMetrics
from zeshel_tasks.errors import StoreUnavailable
from zeshel_tasks.importing.wiki.chunks import PageParser, read_chunk
from zeshel_tasks.importing.wiki.kept_pages import KeptPages
from zeshel_tasks.importing.wiki.page import Page, Site
from zeshel_tasks.importing.wiki.parser import Parser
from zeshel_tasks.store import LocalStore, Store, open_run
from zeshel_tasks.store.garbage import clean_up
from zeshel_tasks.store.s3 import S3Store

PAGES = [Page(str(number), f"Page {number}", "text") for number in range(1, 400)]
FOLDER = "artifacts/download/7/parsed/source-1"


@pytest.fixture
def parsed_titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of the pages that this process parses."""
    found = list[str]()
    parse = Parser.parse

    def note(parser: Parser, page: Page) -> dict[str, Any]:
        found.append(page.title)
        return parse(parser, page)

    monkeypatch.setattr(Parser, "parse", note)
    return found


def lines(store: Store, work: Path) -> list[dict[str, Any]]:
    """What an attempt with an empty folder finds out about the pages."""
    files = list(PageParser(Site(), work, 2, KeptPages(store, FOLDER)).parsed(PAGES))
    return [line for path in files for line in read_chunk(path)]


def test_killed_download_goes_on_where_it_was(tmp_path: Path, parsed_titles: list[str], fault: Fault) -> None:
    dump, store = tmp_path / "towns.xml", LocalStore(tmp_path / "store")
    dump.write_text(towns(900))
    command = ["download", "--run", f"{store.address}/runs/first", "--source", f"wiki:{dump}"]
    killed = subprocess.Popen([sys.executable, "-m", "zeshel_tasks", *command], stderr=subprocess.DEVNULL)
    while not (kept := list(store.keys("artifacts/"))):
        assert killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    fault("input: download killed while it parsed a wiki")
    kept = list(store.keys("artifacts/"))
    assert all("/parsed/source-1/" in key for key in kept)
    later = datetime.now(UTC) + timedelta(days=1)
    (garbage,) = clean_up(store, later, roots=lambda _: (), dry_run=True).removed
    assert garbage.reason == "never finished"
    assert main(command) == 0
    assert 0 < len(parsed_titles) <= 900 - 199 * len(kept)  # files have the pages of 200 ids, the first one from 1
    metrics = DownloadMetrics.model_validate(open_run(command[2]).finished("download").metrics)
    assert metrics.documents_by_world["towns"] == 900
    assert not [key for key in store.keys("artifacts/") if "/parsed/" in key]


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_damaged_file_is_parsed_again(
    kind: str, tmp_path: Path, parsed_titles: list[str], request: pytest.FixtureRequest, fault: Fault
) -> None:
    store = LocalStore(tmp_path / "store") if kind == "local" else S3Store(request.getfixturevalue("bucket"), "some")
    first = lines(store, tmp_path / "first")
    keys = sorted(store.keys(FOLDER))
    assert len(keys) == 2
    assert lines(store, tmp_path / "second") == first
    assert len(parsed_titles) == len(PAGES)
    content = store.get(keys[0])
    assert content is not None
    store.delete(keys[0])  # the local file is also that of the first attempt
    store.put(keys[0], content.replace(b"text", b"test"))
    fault("store: damaged file of parsed pages")
    assert lines(store, tmp_path / "third") == first
    assert len(parsed_titles) == len(PAGES) + content.count(b"\n")
    KeptPages(store, FOLDER).remove()
    assert not list(store.keys(""))


def test_file_that_another_attempt_removes_is_parsed_again(tmp_path: Path, parsed_titles: list[str]) -> None:
    store = LocalStore(tmp_path / "store")
    first = lines(store, tmp_path / "first")
    kept = KeptPages(store, FOLDER)
    KeptPages(store, FOLDER).remove()
    assert sum(len(list(read_chunk(path))) for path in PageParser(Site(), tmp_path / "b", 1, kept).parsed(PAGES)) == 399
    assert len(parsed_titles) == 2 * len(first)


def test_import_goes_on_without_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    def refuse(operation: str, key: str) -> None:
        if operation == "upload":
            raise StoreUnavailable(f"{key}: no answer")

    fault("store: parsed pages cannot be kept")
    with caplog.at_level(logging.WARNING):
        found = lines(WrappedStore(LocalStore(tmp_path / "store"), refuse), tmp_path / "work")
    assert [line["text"] for line in found] == [f"{page.title} text" for page in PAGES]
    assert "a file of parsed pages could not be kept, the import goes on" in caplog.text
