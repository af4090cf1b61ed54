"""Entities in a file are found by position."""

from pathlib import Path

import pytest

from zeshel_tasks.data.document_file import DocumentFile
from zeshel_tasks.data.zeshel import Document, document_line
from zeshel_tasks.errors import DataError

DOCUMENTS = [
    Document("a", "Señor \u2028 A", "", url="https://a", aliases=("x", "y"), types=("person",)),
    Document("b", "B", "two\nlines"),
    Document("c", "\U0001f916", "text" * 5000, aliases=("z",)),
]


def test_documents_are_found_by_position(tmp_path: Path) -> None:
    assert DocumentFile.write(DOCUMENTS, tmp_path) == 3
    documents = DocumentFile(tmp_path)
    assert list(documents) == DOCUMENTS
    assert [documents[position] for position in (2, 0, 1, -1)] == [DOCUMENTS[n] for n in (2, 0, 1, 2)]
    assert documents[1:] == DOCUMENTS[1:]
    assert list(documents.lines()) == [document_line(document) for document in DOCUMENTS]
    with pytest.raises(IndexError):
        documents[3]


def test_shorter_file_is_refused(tmp_path: Path) -> None:
    DocumentFile.write(DOCUMENTS, tmp_path)
    path = tmp_path / "documents.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="documents are missing"):
        DocumentFile(tmp_path)


def test_folder_without_entities(tmp_path: Path) -> None:
    assert DocumentFile.write([], tmp_path) == 0
    assert list(DocumentFile(tmp_path)) == []
