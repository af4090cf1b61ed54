"""An added entity is there and a removed one is gone, and nothing else is encoded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.knowledge_base.conftest import Promote, encoding_by, entities, entity
from tests.store.wrapped import AgedStore
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import ConfigError, CorruptArtifact, DataError, TryAgain
from zeshel_tasks.knowledge_base.changes import add, build, compact, delete, refresh, remove
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, names
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.linking import lexical
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.store import Store, open_store


def opened(store: Store, folder: Path, name: str = "beasts") -> EntitySet:
    return open_knowledge_base(store, name, folder)


def ids(found: EntitySet) -> list[str]:
    return [document.document_id for document in found.documents]


def segments(store: Store, name: str = "beasts") -> list[tuple[int, int]]:
    return [(one.entities, one.removed) for one in KnowledgeBase.read(store, name).head.segments]


def assert_same(one: EntitySet, other: EntitySet, atol: float = 0) -> None:
    assert list(one.documents) == list(other.documents)
    np.testing.assert_array_equal(one.tokens, other.tokens)
    rows = np.arange(len(one))
    # Entities that are encoded in other batches have other last bits. Copied ones have the same.
    np.testing.assert_allclose(one.vectors.rows(rows), other.vectors.rows(rows), atol=atol, rtol=0)
    assert one.tokens_identity == other.tokens_identity
    assert one.fingerprint == other.fingerprint
    for name in lexical.FILES:
        assert (one.folder / "index" / name).read_bytes() == (other.folder / "index" / name).read_bytes()


def test_changed_base_is_the_one_built_from_its_live_entities(
    store: AgedStore, encoding: Encoding, tmp_path: Path
) -> None:
    built = build(store, "beasts", entities(*range(10)), encoding)
    assert (built.entities, built.encoded) == (10, 10)
    assert segments(store) == [(4, 0), (4, 0), (2, 0)]
    changed = add(store, "beasts", [entity(3, "a red beast"), *entities(1, 20, 21)])
    assert (changed.entities, changed.added, changed.updated, changed.encoded) == (12, 2, 1, 3)
    gone = remove(store, "beasts", ["id0", "id21"])
    assert (gone.entities, gone.removed) == (10, 2)
    again = add(store, "beasts", entities(0))
    assert (again.added, again.encoded) == (1, 1)
    live = [*entities(1, 2, 4, 5, 6, 7, 8, 9), entity(3, "a red beast"), *entities(20, 0)]
    found = opened(store, tmp_path / "cache")
    assert list(found.documents) == live
    build(store, "scratch", live, encoding)
    assert_same(found, opened(store, tmp_path / "other", "scratch"), atol=1e-5)


def test_unchanged_entities_change_nothing(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(1, 2), encoding)
    before = store.get("kb/beasts/head.json")
    changed = add(store, "beasts", entities(2, 1))
    assert (changed.entities, changed.added, changed.updated, changed.encoded) == (2, 0, 0, 0)
    assert store.get("kb/beasts/head.json") == before


def test_compaction_keeps_entities_and_order_and_encodes_nothing(
    store: AgedStore, encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store, "beasts", entities(*range(6)), encoding)
    add(store, "beasts", entities(10))
    remove(store, "beasts", ["id5", "id4"])
    before = opened(store, tmp_path / "before")
    whole = KnowledgeBase.read(store, "beasts").head.segments[0]
    monkeypatch.setattr("zeshel_tasks.evaluation.entity_encoding.EntityEncoder.load", None)
    compact(store, "beasts")
    assert segments(store) == [(4, 0), (1, 0)]
    assert KnowledgeBase.read(store, "beasts").head.segments[0] == whole
    assert_same(before, opened(store, tmp_path / "after"))


def test_many_small_segments_are_merged(
    store: AgedStore, encoding: Encoding, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("zeshel_tasks.knowledge_base.head._SMALL_SEGMENTS", 2)
    build(store, "beasts", entities(0), encoding)
    for number in range(1, 4):
        add(store, "beasts", entities(number))
    assert segments(store) == [(3, 0), (1, 0)]
    assert ids(opened(store, tmp_path)) == ["id0", "id1", "id2", "id3"]


def test_refresh_encodes_all_entities_with_the_new_champion(
    store: AgedStore, encoding: Encoding, promote: Promote, tmp_path: Path
) -> None:
    build(store, "beasts", entities(0, 1, 2), encoding)
    remove(store, "beasts", ["id1"])
    other = promote(store, "b" * 64)
    with pytest.raises(ConfigError, match=r"bbbbbbbbbbbb.*beasts.*aaaaaaaaaaaa.*zeshel kb refresh"):
        open_knowledge_base(store, "beasts", tmp_path, other.fingerprint)
    assert add(store, "beasts", entities(4)).encoded == 1  # with the bi-encoder of the others
    refreshed = refresh(store, "beasts", other)
    assert (refreshed.entities, refreshed.encoded) == (3, 3)
    assert ids(open_knowledge_base(store, "beasts", tmp_path, other.fingerprint)) == ["id0", "id2", "id4"]
    assert refresh(store, "beasts", other).encoded == 0


def test_a_base_with_a_broken_head_can_be_deleted(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("kb/beasts/head.json", b'{"enco')
    with pytest.raises(CorruptArtifact, match="`zeshel kb delete`"):
        KnowledgeBase.read(store, "beasts")
    delete(store, "beasts")
    assert not KnowledgeBase.read(store, "beasts").exists
    with pytest.raises(ConfigError):
        delete(store, "beasts")


def test_deleted_base_is_unknown(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(0), encoding)
    build(store, "birds", entities(0), encoding)
    delete(store, "beasts")
    assert list(names(store)) == ["birds"]
    with pytest.raises(ConfigError, match=r"expected a knowledge base of .*/kb \(birds\), got 'beasts'"):
        add(store, "beasts", entities(1))


def test_unknown_ids_are_refused_and_nothing_changes(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(0, 1), encoding)
    before = store.get("kb/beasts/head.json")
    with pytest.raises(DataError, match="expected ids of entities of beasts; got x0, x1, x2, x3, x4 and 2 more"):
        remove(store, "beasts", ["id1", "id1", *(f"x{number}" for number in range(7))])
    assert store.get("kb/beasts/head.json") == before


def test_removing_again_changes_nothing(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(0, 1, 2), encoding)
    remove(store, "beasts", ["id0"])
    before = store.get("kb/beasts/head.json")
    assert remove(store, "beasts", ["id0", "id0"]).removed == 0
    assert store.get("kb/beasts/head.json") == before
    assert remove(store, "beasts", ["id0", "id1"]).removed == 1


def test_base_without_entities_is_refused(store: AgedStore, encoding: Encoding) -> None:
    with pytest.raises(DataError, match="no entities"):
        build(store, "beasts", [], encoding)
    build(store, "beasts", entities(0), encoding)
    with pytest.raises(DataError, match=r"no entity would be left.*zeshel kb delete"):
        remove(store, "beasts", ["id0"])
    assert add(store, "beasts", []).entities == 1


@pytest.mark.parametrize("numbers", [(0, 0), (0, 1, 2, 3, 4, 0)], ids=["one segment", "two segments"])
def test_id_that_occurs_twice_is_refused(store: AgedStore, encoding: Encoding, numbers: tuple[int, ...]) -> None:
    documents = [Document(f"id{number}", f"{place}", "") for place, number in enumerate(numbers)]
    with pytest.raises(DataError, match="ids that occur twice"):
        build(store, "beasts", documents, encoding)
    assert list(names(store)) == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\nb", " a", "a\\b", "x" * 300, "kb\x00"])
def test_odd_name_is_refused(store: AgedStore, encoding: Encoding, name: str) -> None:
    with pytest.raises(ConfigError, match="knowledge base: expected a name that can be a folder"):
        build(store, name, entities(0), encoding)


def test_base_in_s3(s3_store: Store, tmp_path: Path) -> None:
    build(s3_store, "Käse", entities(*range(5)), encoding_by("a" * 64))
    add(s3_store, "Käse", entities(7))
    remove(s3_store, "Käse", ["id0"])
    found = opened(s3_store, tmp_path / "1", "Käse")
    assert ids(found) == ["id1", "id2", "id3", "id4", "id7"]
    assert_same(found, opened(s3_store, tmp_path / "2", "Käse"))  # with the stored index


def overtaken(store: AgedStore, other: Callable[[], object]) -> None:
    """Lets another change swap the head just before the next swap of the head."""

    def interfere(operation: str, key: str) -> None:
        if operation == "put_if_unchanged":
            store.before = lambda operation, key: None
            other()

    store.before = interfere


@pytest.mark.parametrize("again", ["build", "refresh"])
def test_replacement_that_another_change_has_overtaken_must_be_repeated(
    store: AgedStore, encoding: Encoding, promote: Promote, tmp_path: Path, again: str
) -> None:
    build(store, "beasts", entities(0, 1), encoding)
    other = promote(store, "b" * 64)
    repeat = {
        "build": lambda: build(store, "beasts", entities(5), other),
        "refresh": lambda: refresh(store, "beasts", other),
    }
    overtaken(store, lambda: add(store, "beasts", entities(7)))
    with pytest.raises(TryAgain, match="knowledge base beasts: changed at the same time; nothing is lost, try again"):
        repeat[again]()
    assert ids(opened(store, tmp_path)) == ["id0", "id1", "id7"]


def test_entities_of_an_overtaken_bi_encoder_are_not_added(
    store: AgedStore, encoding: Encoding, promote: Promote, tmp_path: Path
) -> None:
    build(store, "beasts", entities(0, 1), encoding)
    other = promote(store, "b" * 64)
    overtaken(store, lambda: refresh(store, "beasts", other))
    with pytest.raises(TryAgain, match="changed at the same time"):
        add(store, "beasts", entities(7))
    assert add(store, "beasts", entities(7)).encoded == 1
    assert ids(opened(store, tmp_path)) == ["id0", "id1", "id7"]
