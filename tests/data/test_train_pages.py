import io
import json
import tarfile
from pathlib import Path

import pytest

from zeshel_tasks.data.train_pages import read_train_pages
from zeshel_tasks.errors import DataError


def write_archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:bz2") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def page(title: str, text: str) -> str:
    return json.dumps({"document_id": title, "title": title, "text": text}) + "\n"


MENTION = json.dumps({"corpus": "seen"}) + "\n"


def test_only_worlds_of_the_train_split_are_read(tmp_path: Path) -> None:
    archive = write_archive(
        tmp_path / "a.tar.bz2",
        {
            "zeshel/documents/hidden.json": page("X", "secret"),
            "zeshel/documents/seen.json": page("A", "one two") + page("B", "three"),
            "zeshel/mentions/test.json": json.dumps({"corpus": "hidden"}) + "\n",
            "zeshel/mentions/train.json": MENTION,
        },
    )
    worlds = read_train_pages(archive)
    assert {world: [(p.title, p.text) for p in pages] for world, pages in worlds.items()} == {
        "seen": [("A", "one two"), ("B", "three")]
    }


def test_pages_and_words_are_bounded(tmp_path: Path) -> None:
    files = {"documents/seen.json": page("A", "one two three") * 5, "mentions/train.json": MENTION}
    pages = read_train_pages(write_archive(tmp_path / "a.tar.bz2", files), max_pages_per_world=2, max_words_per_page=2)
    assert [p.text for p in pages["seen"]] == ["one two", "one two"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"documents/seen.json": page("A", "b")}, "mentions/train.json"),
        ({"mentions/train.json": MENTION}, "documents/seen.json: no documents"),
        ({"mentions/train.json": MENTION, "documents/seen.json": page("A", "b") + "{\n"}, "seen.json:2: broken line"),
        ({"mentions/train.json": MENTION, "documents/seen.json": '{"title": "A"}\n'}, "field 'text'"),
    ],
)
def test_a_broken_archive_is_refused_with_the_place(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_train_pages(write_archive(tmp_path / "a.tar.bz2", files))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.bz2").write_text("hello")
    with pytest.raises(DataError, match="expected a tar archive"):
        read_train_pages(tmp_path / "a.tar.bz2")


def test_a_missing_archive_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.tar: cannot read the archive"):
        read_train_pages(tmp_path / "missing.tar")
