"""A running process follows the changes of a knowledge base, and what it is using stays."""

import gc
import random
from pathlib import Path

import pytest

from tests.knowledge_base.conftest import Promote, entities, entity
from tests.knowledge_base.test_changes import assert_same, ids, opened
from tests.store.cleanups import BEFORE
from tests.store.memory import MemoryStore
from tests.store.wrapped import AgedStore
from tests.support.faults import Fault
from tests.support.rounds import rounds
from zeshel_tasks.errors import ConfigError, CorruptArtifact
from zeshel_tasks.knowledge_base import segment_reader, segments
from zeshel_tasks.knowledge_base.changes import add, build, compact, delete, remove
from zeshel_tasks.knowledge_base.follower import Follower
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, knowledge_base_folders
from zeshel_tasks.knowledge_base.segment_reader import SegmentReader
from zeshel_tasks.store.garbage import clean_up


def test_change_arrives_and_what_is_in_use_stays(store: AgedStore, encoding: Encoding, tmp_path: Path) -> None:
    build(store, "beasts", entities(*range(6)), encoding)
    followed = Follower(store, "beasts", tmp_path / "cache")
    first = followed.entities
    assert not followed.update()
    assert followed.entities is first
    add(store, "beasts", entities(7))
    remove(store, "beasts", ["id2"])
    assert followed.update()
    assert ids(followed.entities) == ["id0", "id1", "id3", "id4", "id5", "id7"]
    assert_same(followed.entities, opened(store, tmp_path / "whole"))
    assert ids(first) == [f"id{number}" for number in range(6)]
    assert len(first.tokens) == len(first.vectors) == len(first.index) == 6
    folder = first.folder
    assert folder.is_dir()
    del first
    gc.collect()
    assert not folder.exists()
    compact(store, "beasts")
    assert not followed.update(), "these are the same entities"
    del followed
    gc.collect()
    assert not list((tmp_path / "cache").iterdir())


def test_only_new_segments_are_fetched(promote: Promote, tmp_path: Path) -> None:
    store = MemoryStore()
    build(store, "beasts", entities(*range(6)), promote(store, "a" * 64))
    followed = Follower(store, "beasts", tmp_path)
    before = {path for path in tmp_path.rglob("*.npy") if "attempts" in path.parts}
    times = {path: path.stat().st_mtime_ns for path in before}
    add(store, "beasts", entities(7))
    assert followed.update()
    after = {path for path in tmp_path.rglob("*.npy") if "attempts" in path.parts}
    assert {path for path in before if path.stat().st_mtime_ns != times[path]} == set()
    assert len(after) == len(before) * 3 / 2
    remove(store, "beasts", [f"id{number}" for number in range(6)])
    compact(store, "beasts")
    assert followed.update()
    assert not before & {path for path in tmp_path.rglob("*") if path.is_file()}, "the old segments are of no use"


def test_update_that_fails_leaves_the_entities(store: AgedStore, encoding: Encoding, tmp_path: Path) -> None:
    build(store, "beasts", entities(0, 1), encoding)
    followed = Follower(store, "beasts", tmp_path / "cache", encoding.fingerprint)
    folders = set((tmp_path / "cache").iterdir())
    add(store, "beasts", entities(2))
    head = KnowledgeBase.read(store, "beasts").head
    store.delete(f"{head.segments[1].artifact}/manifest.json")
    for _ in range(2):
        with pytest.raises(CorruptArtifact, match="a segment is missing"):
            followed.update()
    assert ids(followed.entities) == ["id0", "id1"]
    assert set((tmp_path / "cache").iterdir()) == folders
    delete(store, "beasts")
    with pytest.raises(ConfigError, match="expected a knowledge base"):
        followed.update()
    build(store, "beasts", entities(0, 1), encoding)
    assert not followed.update()


@pytest.mark.parametrize("method", ["keys", "copy_rows", "words"])
def test_segments_that_are_removed_during_an_update_are_of_an_older_version(
    store: AgedStore,
    encoding: Encoding,
    tmp_path: Path,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    build(store, "beasts", entities(0, 1, 2), encoding)
    followed = Follower(store, "beasts", tmp_path / "cache")
    old = KnowledgeBase.read(store, "beasts").head.segments[0].artifact
    remove(store, "beasts", ["id1"])
    original = getattr(SegmentReader, method)

    def interrupted(*arguments: object) -> object:
        monkeypatch.undo()
        compact(store, "beasts")
        store.grow_old()
        clean_up(store, BEFORE, roots=knowledge_base_folders)
        assert not list(store.keys(old))
        fault("knowledge base: replaced and removed while it is followed")
        return original(*arguments)

    monkeypatch.setattr(SegmentReader, method, interrupted)
    assert followed.update()
    assert getattr(SegmentReader, method) is original, "it was interrupted"
    assert_same(followed.entities, opened(store, tmp_path / "whole"))
    assert ids(followed.entities) == ["id0", "id2"]


@pytest.mark.parametrize("seed", range(rounds(1, 40)))
def test_any_changes_give_the_base_that_is_built_from_its_entities(
    store: AgedStore, encoding: Encoding, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    build(store, "beasts", entities(*range(7)), encoding)
    followed = Follower(store, "beasts", tmp_path / "cache")
    for turn in range(6):
        numbers = dice.sample(range(12), 3)
        match dice.randrange(4):
            case 0:
                add(store, "beasts", entities(*numbers))
            case 1:
                add(store, "beasts", [entity(number, f"a beast of turn {turn}") for number in numbers])
            case 2:
                remove(store, "beasts", dice.sample(ids(followed.entities), 2))
            case _:
                compact(store, "beasts")
        followed.update()
        build(store, "whole", list(followed.entities.documents), encoding)
        assert_same(followed.entities, opened(store, tmp_path / str(turn), "whole"), atol=1e-5)


def test_words_of_a_segment_of_an_earlier_version_are_counted(
    store: AgedStore, encoding: Encoding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(store, "whole", entities(*range(6)), encoding)
    with monkeypatch.context() as earlier:
        earlier.setattr(segments, "FILES", segment_reader.FILES[:4])
        build(store, "beasts", entities(*range(6)), encoding)
    segment = KnowledgeBase.read(store, "beasts").head.segments[0].artifact
    assert not [key for key in store.keys(segment) if key.endswith(segment_reader.WORDS)]
    followed = Follower(store, "beasts", tmp_path / "cache")
    assert_same(followed.entities, opened(store, tmp_path / "whole", "whole"), atol=1e-5)
    assert_same(followed.entities, opened(store, tmp_path / "without following"))
    remove(store, "beasts", ["id1"])
    assert followed.update()
    compact(store, "beasts")
    assert_same(opened(store, tmp_path / "compacted"), followed.entities)
