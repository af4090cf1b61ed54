"""zeshel gc keeps what a knowledge base needs, and what a change of it is about to use."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.knowledge_base.conftest import Promote, entities
from tests.store.cleanups import BEFORE
from tests.store.wrapped import AgedStore
from zeshel_tasks.champion.champions import KEY
from zeshel_tasks.commands.gc import roots
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.knowledge_base.changes import build, refresh
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.store.garbage import clean_up


def folders(store: AgedStore) -> set[str]:
    return {"/".join(key.split("/")[:3]) for key in store.keys("artifacts/")}


def test_segments_and_bi_encoder_stay_without_run_and_champion(
    store: AgedStore, encoding: Encoding, promote: Promote, tmp_path: Path
) -> None:
    build(store, "beasts", entities(*range(5)), encoding)
    open_knowledge_base(store, "beasts", tmp_path)
    head = KnowledgeBase.read(store, "beasts").head
    other = promote(store, "b" * 64)
    store.delete(KEY)
    store.grow_old()
    clean_up(store, BEFORE, roots=roots)
    assert folders(store) == head.folders == {encoding.biencoder, *(s.artifact for s in head.segments)}
    promote(store, "b" * 64)
    refresh(store, "beasts", other)
    store.grow_old()
    clean_up(store, BEFORE, roots=roots)
    assert not folders(store) & head.folders


@pytest.mark.parametrize("is_old", [False, True])
def test_records_of_a_killed_change_count_until_they_are_old(
    store: AgedStore, encoding: Encoding, is_old: bool
) -> None:
    build(store, "beasts", entities(0), encoding)
    before = folders(store)
    with patch.object(KnowledgeBase, "replace", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        build(store, "beasts", entities(1), encoding)
    (segment,) = folders(store) - before
    store.grow_old()
    for key in [] if is_old else list(store.keys("kb/beasts/changes/")):  # as if an old segment was reused just now
        record = store.get(key)
        assert record is not None
        store.put(key, record)
    done = clean_up(store, BEFORE, roots=roots)
    assert (read_manifest_now(store, segment) is None) is is_old
    reasons = {garbage.reason for garbage in done.removed}
    assert ("left by a change" in reasons) is is_old
    assert bool(list(store.keys("kb/beasts/changes/"))) is not is_old


def test_broken_head_stops_the_cleanup(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(0), encoding)
    data = store.get("kb/beasts/head.json")
    assert data is not None
    store.put("kb/beasts/head.json", data.replace(b'"entities": 1', b'"entities": 2'))
    there = folders(store)
    with pytest.raises(CorruptArtifact, match=r"kb/beasts/head.json: broken; restore an earlier version"):
        clean_up(store, datetime.now(UTC) - timedelta(days=2), roots=roots)
    assert folders(store) == there
