"""A knowledge base is opened as one folder, whatever happens to it at the same time."""

from pathlib import Path

import pytest

from tests.knowledge_base.conftest import entities
from tests.store.cleanups import BEFORE
from tests.store.wrapped import AgedStore
from tests.support.faults import Fault
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.knowledge_base.changes import build, compact, remove
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, knowledge_base_folders
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.store.garbage import clean_up


def test_base_that_is_compacted_and_cleaned_up_while_it_is_read_is_read_again(
    store: AgedStore, encoding: Encoding, tmp_path: Path, fault: Fault
) -> None:
    build(store, "beasts", entities(0, 1, 2), encoding)
    remove(store, "beasts", ["id1"])
    segment = KnowledgeBase.read(store, "beasts").head.segments[0].artifact
    interrupted = list[str]()

    def interfere(operation: str, key: str) -> None:
        if operation == "local_copy" and key.startswith(segment) and not interrupted:
            interrupted.append(key)
            compact(store, "beasts")
            store.grow_old()
            clean_up(store, BEFORE, roots=knowledge_base_folders)
            assert store.get(key) is None
            fault("knowledge base: replaced and removed while it is read")

    store.before = interfere
    found = open_knowledge_base(store, "beasts", tmp_path / "cache")
    assert interrupted
    assert [document.document_id for document in found.documents] == ["id0", "id2"]


def test_opened_base_is_fetched_again_only_after_a_change(store: AgedStore, encoding: Encoding, tmp_path: Path) -> None:
    build(store, "beasts", entities(0, 1, 2), encoding)
    first = open_knowledge_base(store, "beasts", tmp_path)
    fetched = list[str]()
    store.before = lambda operation, key: fetched.append(key) if operation == "local_copy" else None
    assert open_knowledge_base(store, "beasts", tmp_path).folder == first.folder
    assert not fetched
    remove(store, "beasts", ["id0"])
    assert open_knowledge_base(store, "beasts", tmp_path).folder != first.folder
    assert {path.name for path in tmp_path.glob("unfinished-*")} == set()


@pytest.mark.parametrize("name", ["documents.jsonl", "tokens.npy", "vectors.npy", "keys.npy", "words.zip"])
def test_damaged_segment_is_refused(
    store: AgedStore, encoding: Encoding, tmp_path: Path, fault: Fault, name: str
) -> None:
    build(store, "beasts", entities(0, 1), encoding)
    (path,) = (tmp_path / "store" / "artifacts" / "knowledge-base").rglob(name)
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    fault("knowledge base: a bit of a segment flips")
    with pytest.raises(CorruptArtifact, match=f"{name}: differs from what was committed"):
        open_knowledge_base(store, "beasts", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_missing_segment_is_named(store: AgedStore, encoding: Encoding, tmp_path: Path, fault: Fault) -> None:
    build(store, "beasts", entities(0, 1), encoding)
    segment = KnowledgeBase.read(store, "beasts").head.segments[0].artifact
    store.delete(f"{segment}/manifest.json")
    fault("knowledge base: a segment is deleted")
    with pytest.raises(CorruptArtifact, match=f"{segment}: a segment is missing"):
        open_knowledge_base(store, "beasts", tmp_path / "cache")
    build(store, "beasts", entities(0, 1), encoding)
    assert len(open_knowledge_base(store, "beasts", tmp_path / "cache")) == 2
