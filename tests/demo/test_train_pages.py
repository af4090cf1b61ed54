import tarfile
from pathlib import Path

import pytest

from tests.support.data_set_files import DataSetFiles
from zeshel_tasks.demo.train_pages import read_train_pages
from zeshel_tasks.errors import DataError

TRAIN, DOCUMENTS = "mentions/train.json", "documents/aster.json"


def archive_of(data_set: DataSetFiles) -> Path:
    path = data_set.root.parent / "a.tar.bz2"
    with tarfile.open(path, "w:bz2") as tar:
        tar.add(data_set.write(), "zeshel")
    return path


def test_only_worlds_of_the_train_split_are_read(data_set: DataSetFiles) -> None:
    worlds = read_train_pages(archive_of(data_set))
    assert {world: [(p.title, p.text) for p in pages] for world, pages in worlds.items()} == {
        "aster": [(line["title"], line["text"]) for line in data_set.files[DOCUMENTS]]
    }


def test_pages_and_words_are_bounded(data_set: DataSetFiles) -> None:
    pages = read_train_pages(archive_of(data_set), max_pages_per_world=2, max_words_per_page=2)
    assert [page.text for page in pages["aster"]] == ["The aster", "The aster"]


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        (TRAIN, [], "mentions/train.json: empty file"),
        (TRAIN, [{"corpus": "aster"}], "mentions/train.json:1: missing field"),
        (DOCUMENTS, [], "documents/aster.json: empty file"),
        (DOCUMENTS, [{"document_id": "a", "title": "A"}], "documents/aster.json:1: missing field .*'text'"),
    ],
)
def test_broken_data_set_is_refused_by_file_name(
    data_set: DataSetFiles, file: str, lines: list[dict[str, str]], message: str
) -> None:
    data_set.files[file] = lines
    with pytest.raises(DataError, match=message):
        read_train_pages(archive_of(data_set))


def test_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar.bz2").write_text("hello")
    with pytest.raises(DataError, match="not a tar archive"):
        read_train_pages(tmp_path / "a.tar.bz2")


def test_missing_archive_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.tar: cannot read the archive"):
        read_train_pages(tmp_path / "missing.tar")
