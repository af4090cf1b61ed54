"""The approximate index of a knowledge base: published only if it is good, and used while entities change."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from tests.knowledge_base.conftest import Promote, entities, entity
from tests.store.cleanups import BEFORE
from tests.store.wrapped import AgedStore
from zeshel_tasks.commands.gc import roots
from zeshel_tasks.errors import ConfigError, DataError, TryAgain
from zeshel_tasks.evaluation.approximate import ApproximateIndex
from zeshel_tasks.evaluation.candidates import Candidates
from zeshel_tasks.evaluation.retrieval import top_k
from zeshel_tasks.knowledge_base import indexing
from zeshel_tasks.knowledge_base.changes import add, build, compact, refresh, remove
from zeshel_tasks.knowledge_base.follower import Follower
from zeshel_tasks.knowledge_base.head import Encoding, HeadIndex, KnowledgeBase
from zeshel_tasks.knowledge_base.indexing import check_size, set_index
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.linking.entity_set import EntitySet
from zeshel_tasks.store.garbage import clean_up


@pytest.fixture(autouse=True)
def base(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(*range(12)), encoding)


def found(store: AgedStore, folder: Path) -> EntitySet:
    return open_knowledge_base(store, "beasts", folder)


def exact(of: EntitySet) -> Candidates:
    queries = of.vectors.rows(np.arange(5))
    scores, positions = top_k(torch.from_numpy(queries), of.vectors, 4)
    return Candidates(np.arange(5), scores.numpy(), positions.numpy(), queries)


def published(store: AgedStore, folder: Path) -> HeadIndex:
    opened = found(store, folder)
    return set_index(store, "beasts", opened, exact(opened))


def assert_finds_what_exact_search_finds(entities: EntitySet) -> None:
    assert isinstance(entities.searched, ApproximateIndex)
    queries = torch.from_numpy(entities.vectors.rows(np.arange(len(entities))))
    np.testing.assert_array_equal(entities.searched.top_k(queries, 4)[1], top_k(queries, entities.vectors, 4)[1])


def head_index(store: AgedStore) -> HeadIndex | None:
    return KnowledgeBase.read(store, "beasts").head.index


def test_service_searches_with_the_index_of_its_entities(store: AgedStore, tmp_path: Path) -> None:
    followed = Follower(store, "beasts", tmp_path / "cache")
    assert followed.entities.searched is followed.entities.vectors
    assert not followed.update()
    named = published(store, tmp_path / "opened")
    assert named.share >= indexing.LEAST_SHARE
    assert followed.update(), "the entities are the same, the index is new"
    searched = followed.entities.searched
    assert isinstance(searched, ApproximateIndex)
    wanted = exact(followed.entities)
    positions = searched.top_k(torch.from_numpy(wanted.queries), 4)[1]
    np.testing.assert_array_equal(positions, wanted.positions)
    assert not followed.update()


def test_changed_entities_are_searched_beside_the_index_until_they_are_indexed(
    store: AgedStore, tmp_path: Path
) -> None:
    named = published(store, tmp_path / "opened")
    followed = Follower(store, "beasts", tmp_path / "cache")
    add(store, "beasts", [entity(3, "a red beast"), *entities(20, 21)])
    remove(store, "beasts", ["id0", "id21"])
    for change in (lambda: None, lambda: compact(store, "beasts")):
        change()
        assert head_index(store) == named
        followed.update()
        assert_finds_what_exact_search_finds(followed.entities)
    published(store, tmp_path / "again")
    assert followed.update()
    assert_finds_what_exact_search_finds(followed.entities)


def test_index_is_fetched_once(store: AgedStore, tmp_path: Path) -> None:
    published(store, tmp_path / "opened")
    with patch.object(indexing, "_artifact", wraps=indexing._artifact) as opened:
        followed = Follower(store, "beasts", tmp_path / "cache")
        add(store, "beasts", entities(20))
        assert followed.update()
        assert opened.call_count == 1
        published(store, tmp_path / "again")
        assert followed.update()
        assert opened.call_count == 2


def test_index_that_knows_few_of_the_entities_is_not_used(
    store: AgedStore, encoding: Encoding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published(store, tmp_path / "opened")
    build(store, "beasts", entities(*range(5), 20, *range(6, 12)), encoding)
    followed = Follower(store, "beasts", tmp_path / "cache")
    assert followed.entities.searched is followed.entities.vectors
    assert "index it again with `zeshel kb index`; it is searched exactly" in caplog.text


def test_index_is_dropped_with_the_vectors_that_it_is_for(store: AgedStore, promote: Promote, tmp_path: Path) -> None:
    published(store, tmp_path / "opened")
    refresh(store, "beasts", promote(store, "b" * 64))
    assert head_index(store) is None


def test_merge_of_segments_keeps_the_index_and_a_cleanup_too(store: AgedStore, tmp_path: Path) -> None:
    add(store, "beasts", entities(20))
    named = published(store, tmp_path / "opened")
    compact(store, "beasts")
    assert head_index(store) == named
    store.grow_old()
    clean_up(store, BEFORE, roots=roots)
    assert isinstance(Follower(store, "beasts", tmp_path / "cache").entities.searched, ApproximateIndex)


def test_index_that_misses_too_much_is_not_published(
    store: AgedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "share_found", lambda *_: 0.99)
    with pytest.raises(DataError, match=r"not published.*expected 99.5% of what an exact search finds; got 99.00%"):
        published(store, tmp_path / "opened")
    assert head_index(store) is None


def test_index_is_published_for_entities_that_have_changed_but_not_for_those_that_are_encoded_again(
    store: AgedStore, promote: Promote, tmp_path: Path
) -> None:
    opened = found(store, tmp_path / "opened")
    add(store, "beasts", entities(20))
    assert set_index(store, "beasts", opened, exact(opened)).entities == 12
    assert_finds_what_exact_search_finds(Follower(store, "beasts", tmp_path / "cache").entities)
    refresh(store, "beasts", promote(store, "b" * 64))
    with pytest.raises(TryAgain, match="encoded again, or changed all the time; index it again"):
        set_index(store, "beasts", opened, exact(opened))
    assert head_index(store) is None


def test_service_without_faiss_searches_exactly(
    store: AgedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    published(store, tmp_path / "opened")
    monkeypatch.setattr(indexing, "has_faiss", lambda: False)
    followed = Follower(store, "beasts", tmp_path / "cache")
    assert followed.entities.searched is followed.entities.vectors
    assert "its index is not used, because faiss is not installed" in caplog.text


def test_small_knowledge_bases_get_no_index() -> None:
    check_size(1_000_000, 1_000_000)
    with pytest.raises(ConfigError, match=r"at least 1,000,000 entities .*, got one of 12, which is searched exactly"):
        check_size(12, 1_000_000)
