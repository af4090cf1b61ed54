"""Entities in a file are found by position."""

from pathlib import Path

import numpy as np
import pytest

from zeshel_tasks.data import document_file
from zeshel_tasks.data.document_file import DocumentFile, DocumentWriter
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


@pytest.mark.parametrize("wanted", [[True, True, True], [False, True, False], [True, False, True], [False] * 3])
def test_lines_are_copied(tmp_path: Path, wanted: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_file, "_BLOCK", 7)
    DocumentFile.write(DOCUMENTS, tmp_path)
    (tmp_path / "copy").mkdir()
    with DocumentWriter(tmp_path / "copy") as writer:
        for _ in range(2):
            writer.copy(tmp_path / "documents.jsonl", np.array(wanted))
    expected = [document for document, is_wanted in zip(DOCUMENTS, wanted, strict=True) if is_wanted] * 2
    copied = DocumentFile(tmp_path / "copy")
    assert list(copied) == expected
    assert [copied[position] for position in range(len(copied))] == expected
