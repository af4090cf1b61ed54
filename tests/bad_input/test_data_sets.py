"""Data sets that are broken in one place: each is refused with file, line and field, or treated as documented."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.bad_input.command import Ended, assert_refused, run
from tests.support.data_set_files import DataSetFiles
from tests.support.faults import Fault
from zeshel_tasks.errors import EXIT_DATA
from zeshel_tasks.store import open_run

Break = Callable[[DataSetFiles], None]

DOCUMENTS, MENTIONS = "documents/aster.json", "mentions/train.json"
GOOD = {DOCUMENTS: {"document_id": "aster-9", "title": "t", "text": "w " * 9}}


class Case(NamedTuple):
    """A way to break the data set, and words of the expected message. Without words, the data set must be accepted."""

    name: str
    change: Break
    words: tuple[str, ...] = ()


def second_line(file: str, line: str | bytes) -> Break:
    """Replaces the second line of a file."""

    def change(files: DataSetFiles) -> None:
        lines = (files.root / file).read_bytes().split(b"\n")
        lines[1] = line if isinstance(line, bytes) else line.encode("utf-8", "surrogatepass")
        files.write_bytes(file, b"\n".join(lines))

    return change


def field(file: str, name: str, value: Any, line: int = 2) -> Break:
    """Sets a field of one line; ``...`` removes it."""

    def change(files: DataSetFiles) -> None:
        record = files.files[file][line - 1]
        if value is ...:
            del record[name]
        else:
            record[name] = value
        files.write()

    return change


def content(file: str, make: Callable[[bytes], bytes]) -> Break:
    """Changes a file's bytes."""
    return lambda files: files.write_bytes(file, make((files.root / file).read_bytes()))


def without(file: str) -> Break:
    return lambda files: (files.root / file).unlink()


def same_id_twice(file: str, name: str) -> Break:
    return lambda files: field(file, name, files.files[file][0][name])(files)


def deep(levels: int) -> str:
    return '{"document_id": ' + "[" * levels + "]" * levels + "}"


LINES = [
    ("no JSON", "document_id=1", "broken JSON"),
    ("half of a line", '{"document_id": "aster-1", "tit', "broken JSON"),
    ("an array", '["aster-1", "title", "text"]', "not an object"),
    ("a number", "7", "not an object"),
    ("null", "null", "not an object"),
    ("two objects", '{"a": 1} {"b": 2}', "broken JSON"),
    ("a blank line", "", "blank line"),
    ("white space", " \t ", "blank line"),
    ("a second BOM", "\ufeff{}", "broken JSON"),
    ("NUL bytes", b"\x00\x00\x00\x00", "broken JSON"),
    ("a NUL in a string", b'{"document_id": "a\x00b"}', "broken JSON"),
    ("no UTF-8", b'{"document_id": "\xff\xfe"}', "not UTF-8"),
    ("Latin-1", '{"document_id": "é"}'.encode("latin-1"), "not UTF-8"),
    ("UTF-16", '{"document_id": "a"}'.encode("utf-16"), "not UTF-8"),
    ("surrogates as bytes", b'{"document_id": "\xed\xa0\x80"}', "not UTF-8"),
    ("deep JSON", deep(100_000), "broken JSON"),
    ("deep JSON that ends nowhere", "[" * 1_000_000, "broken JSON"),
    ("an integer of 5,000 digits", '{"document_id": ' + "9" * 5000 + "}", "broken JSON"),
    ("10 MB in one line", "x" * 10_000_000, "broken JSON"),
    ("terminal commands", "\x1b]0;owned\x07\x1b[2J", "broken JSON"),
    ("a line that looks like a log's", "\rINFO: all is well\x85ERROR: no", "broken JSON"),
]

MENTION_FIELDS: list[tuple[str, str, Any, str]] = [
    *((f"{name} missing", name, ..., "missing field")
      for name in ("mention_id", "context_document_id", "corpus", "start_index", "end_index", "text",
                   "label_document_id", "category")),
    ("a mention_id that is a number", "mention_id", 5, "wrong type"),
    ("an empty mention_id", "mention_id", "", "empty"),
    ("a category of null", "category", None, "wrong type"),
    ("a text that is a list", "text", ["Page"], "wrong type"),
    ("half of a surrogate pair", "text", "\ud800", "half of a surrogate pair"),
    ("an index that is text", "start_index", "7", "wrong type"),
    ("an index with a fraction", "start_index", 7.5, "wrong type"),
    ("an index that is a float", "end_index", 8.0, "wrong type"),
    ("an index that is true", "start_index", True, "wrong type"),
    ("an index of infinity", "end_index", float("inf"), "wrong type"),
    ("an index that is not a number", "end_index", float("nan"), "wrong type"),
    ("a negative index", "start_index", -1, "negative index"),
    ("an index of 4,000 digits", "end_index", 10**4000, ""),
    ("an end beyond the page", "end_index", 10**6, ""),
    ("indices reversed", "start_index", 9, ""),

    ("a text of other words", "text", "Page 7", "text differs from its tokens"),
    ("an unknown world", "corpus", "nowhere", "unknown world"),
    ("a world that leaves the folder", "corpus", "../../aster", "unknown world"),
    ("a page that is not there", "context_document_id", "aster-77", ""),
    ("a gold that is not there", "label_document_id", "aster-77", ""),
    ("a gold in another world", "label_document_id", "brine-1", ""),
    ("an id of terminal commands", "label_document_id", "\x1b[2Jx\n\rERROR: y", ""),
    ("an id of a megabyte", "label_document_id", "x" * 2**20, ""),
]  # fmt: skip

REFUSED = [
    *(Case(f"documents: {name}", second_line(DOCUMENTS, line), (f"{DOCUMENTS}:2: {problem}",))
      for name, line, problem in LINES),
    *(Case(f"mentions: {name}", second_line(MENTIONS, line), (f"{MENTIONS}:2: {problem}",))
      for name, line, problem in LINES),
    *(Case(name, field(MENTIONS, key, value), (f"{MENTIONS}:2: {problem}", key))
      for name, key, value, problem in MENTION_FIELDS),
    *(Case(f"{name} missing", field(DOCUMENTS, name, ...), (f"{DOCUMENTS}:2: missing field", name))
      for name in ("document_id", "title", "text")),
    Case("indices of other words", field(MENTIONS, "start_index", 6),
         (f"{MENTIONS}:2: text differs from its tokens", "text", "tokens 6 to 8 of aster-1")),
    Case("a title of null", field(DOCUMENTS, "title", None), (f"{DOCUMENTS}:2: wrong type", "title", "None")),
    Case("a text that is a number", field(DOCUMENTS, "text", 10**400), (f"{DOCUMENTS}:2: wrong type", "text")),
    Case("an empty document_id", field(DOCUMENTS, "document_id", ""), (f"{DOCUMENTS}:2: empty", "document_id")),
    Case("half of a surrogate pair in a title", field(DOCUMENTS, "title", "a\udfffb"),
         (f"{DOCUMENTS}:2: half of a surrogate pair", "title")),
    Case("the same document_id twice", same_id_twice(DOCUMENTS, "document_id"),
         (f"{DOCUMENTS}:2: duplicate", "document_id", "first on line 1")),
    Case("the same mention_id twice", same_id_twice(MENTIONS, "mention_id"),
         (f"{MENTIONS}:2: duplicate", "mention_id", "first on line 1")),
    Case("a BOM before the documents", content(DOCUMENTS, lambda data: b"\xef\xbb\xbf" + data),
         (f"{DOCUMENTS}:1: byte order mark",)),
    Case("a BOM before the mentions", content(MENTIONS, lambda data: b"\xef\xbb\xbf" + data),
         (f"{MENTIONS}:1: byte order mark",)),
    Case("lines that end in CR alone", content(DOCUMENTS, lambda data: data.replace(b"\n", b"\r")),
         (f"{DOCUMENTS}:1: broken JSON",)),
    Case("an empty world", content(DOCUMENTS, lambda data: b""), (f"{DOCUMENTS}: empty file",)),
    Case("an empty split", content(MENTIONS, lambda data: b""), (f"{MENTIONS}: empty file",)),
    Case("a split of one line end", content(MENTIONS, lambda data: b"\n"), (f"{MENTIONS}:1: blank line",)),
    Case("a split that is missing", without(MENTIONS), (f"{MENTIONS}: no such file",)),
    Case("a world that is missing", without(DOCUMENTS), (f"{MENTIONS}:1: unknown world", "corpus", "aster")),
    Case("a file that is cut off", content(DOCUMENTS, lambda data: data[:-20]), (f"{DOCUMENTS}:3: broken JSON",)),
    Case("a world in two splits", content("mentions/val.json", lambda data: data.replace(b"brine", b"cinder")),
         ("mentions/test.json: the same world in two splits", "mentions/val.json", "cinder")),
]  # fmt: skip


def long_mention(files: DataSetFiles) -> None:
    """Adds a mention of 300 tokens, which is longer than any context window of the tests."""
    text = " ".join(f"word{number}" for number in range(300))
    files.files[DOCUMENTS][1]["text"] = f"Before {text} after ."
    files.files[MENTIONS][1] |= {"start_index": 1, "end_index": 300, "text": text}
    files.write()


def big_page(files: DataSetFiles) -> None:
    """Adds a page of 10 MB in one line."""
    files.files[DOCUMENTS][2]["text"] = "word " * 2_000_000
    files.write()


TAKEN = [
    Case("nothing is broken", lambda files: None),
    Case("lines that end in CR LF", content(DOCUMENTS, lambda data: data.replace(b"\n", b"\r\n"))),
    Case("no line end at the end", content(MENTIONS, lambda data: data[:-1])),
    Case("a title of markup", field(DOCUMENTS, "title", "<script>alert(1)</script>")),
    Case("a title of control characters", field(DOCUMENTS, "title", "\x1b[2J\x00\r\n\u202e")),
    Case("a title of the markers", field(DOCUMENTS, "title", "[unused0] [SEP] [CLS]")),
    Case("an empty title and text", lambda files: [field(DOCUMENTS, name, "", 3)(files) for name in ("title", "text")]),
    Case("more fields than are known", field(DOCUMENTS, "extra", {"a": [1, None]})),
    Case("a mention longer than the context window", long_mention),
    Case("a page of 10 MB", big_page),
]


def prepare(case: Case, folder: Path) -> Path:
    """Returns the broken data set as an archive."""
    files = DataSetFiles(folder / "zeshel")
    files.write()
    case.change(files)
    with tarfile.open(folder / "zeshel.tar", "w") as archive:
        archive.add(files.root, "zeshel")
    return folder / "zeshel.tar"


def download_and_convert(archive: Path, address: str, capsys: pytest.CaptureFixture[str]) -> Ended:
    ended = run(["download", "--run", address, "--source", archive], capsys)
    return ended if ended.code else run(["convert", "--run", address], capsys)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_broken_data_set_is_refused_with_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, case: Case
) -> None:
    address = str(tmp_path / "runs" / "r")
    ended = download_and_convert(prepare(case, tmp_path), address, capsys)
    fault("input: broken data set")
    assert_refused(ended, EXIT_DATA, *case.words)
    assert open_run(address).record("convert") is None


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: case.name)
def test_unusual_data_set_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault, case: Case
) -> None:
    address = str(tmp_path / "runs" / "r")
    ended = download_and_convert(prepare(case, tmp_path), address, capsys)
    fault("input: strange data set")
    assert (ended.code, ended.errors) == (0, [])
    manifest = open_run(address).manifest("convert")
    assert manifest is not None
    assert manifest.metrics["mentions"] == {"train": 2, "valid": 2, "test": 2}


def test_skip_leaves_out_and_logs_broken_mentions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: Fault
) -> None:
    address = str(tmp_path / "runs" / "r")
    archive = prepare(Case("", second_line(MENTIONS, "\x1b[2J not JSON")), tmp_path)
    assert run(["download", "--run", address, "--source", archive], capsys).code == 0
    flags = ["--on_bad_mention", "skip", "--max_bad_share", "0.5"]
    ended = run(["convert", "--run", address, *flags], capsys)
    fault("input: broken mention with skip")
    assert ended.code == 0
    assert [line for line in ended.lines if line.startswith("WARNING: left out: mentions/train.json:2: broken JSON")]
    manifest = open_run(address).manifest("convert")
    assert manifest is not None
    assert manifest.metrics["mentions"] == {"train": 1, "valid": 2, "test": 2}
