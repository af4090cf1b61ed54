"""Changes, readers and cleanups of one knowledge base at the same time, interleaved by a seed at every operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from tests.knowledge_base.conftest import entities
from tests.store.cleanups import BEFORE
from tests.store.memory import MemoryStore
from tests.support.faults import Fault
from tests.support.rounds import rounds
from tests.two_at_once.baton import Baton, Killed
from tests.two_at_once.situations import Torn, Witness
from zeshel_tasks.compute import machine
from zeshel_tasks.errors import CorruptArtifact, TryAgain
from zeshel_tasks.knowledge_base import changes, segments
from zeshel_tasks.knowledge_base.head import Encoding, KnowledgeBase, knowledge_base_folders
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.knowledge_base.segment_reader import SegmentReader
from zeshel_tasks.knowledge_base.segments import Change
from zeshel_tasks.linking.lexical import LexicalIndex
from zeshel_tasks.store import Metrics, Run, artifacts
from zeshel_tasks.store.artifacts import read_manifest_now
from zeshel_tasks.store.garbage import clean_up
from zeshel_tasks.store.lock import LOCK

SEEDS = range(rounds(8, 200))
"""Seeds for each situation."""

ENCODING = Encoding(
    biencoder="artifacts/train-biencoder/x", candidate_form="title_and_text", precision="fp32", vector_dtype="float32"
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encodes without a model, and lets the cleanup continue while others wait for its decision."""

    def write(self: Change, folder: Path) -> Metrics:
        documents = segments.DocumentFile(folder)
        numbers = [int(document.document_id.removeprefix("id")) for document in documents]
        np.save(folder / "tokens.npy", np.array(numbers, dtype=np.int32)[:, None])
        np.save(folder / "vectors.npy", np.array(numbers, dtype=np.float32)[:, None])
        return {"tokens": "t"}

    def nothing(*_: object) -> None:
        """Words are a part of a segment like the others, and the index is made of them."""

    monkeypatch.setattr(Change, "_write_encodings", write)
    monkeypatch.setattr(segments, "write_counts", nothing)
    monkeypatch.setattr(segments, "pack", nothing)
    monkeypatch.setattr(segments, "FILES", ("documents.jsonl", "tokens.npy", "vectors.npy", "keys.npy"))
    monkeypatch.setattr(SegmentReader, "words", nothing)
    monkeypatch.setattr(LexicalIndex, "write_merged", nothing)
    for name in ("versions", "hardware"):
        monkeypatch.setattr(machine, name, dict)
    monkeypatch.setattr(artifacts, "_DECISION_PAUSES", (0,) * 60)


class Situation:
    """A store with the knowledge base ``beasts`` of the entities 0 to 5, from long ago."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self.folder, self.seed, self.baton = folder, seed, Baton(seed)
        self.store = Witness(MemoryStore(), self.baton)
        self.wanted: dict[str, Callable[[], object]] = {}
        changes.build(self.store, "beasts", entities(*range(6)), ENCODING)
        self.store.grow_old()

    def change(self, name: str, act: Callable[[], object], killed_after: int | None = None) -> None:
        """Adds a thread whose change is repeated while another attempt can help, and later if it was killed."""

        def repeated() -> None:
            for _ in range(50):
                try:
                    act()
                except TryAgain:
                    self.baton.step()
                else:
                    return
            raise Torn(f"{name} has no end")

        self.wanted[name] = repeated
        self.baton.add(name, repeated, killed_after=killed_after)

    def add(self, number: int, killed_after: int | None = None) -> None:
        self.change(
            f"add {number}", lambda: changes.add(self.store, "beasts", entities(number)), killed_after=killed_after
        )

    def read(self, *allowed: Iterable[int]) -> None:
        """Adds a thread that opens the knowledge base, which must have one of these sets of entities."""

        def act() -> None:
            found = self._opened("reader")
            if found not in [set(numbers) for numbers in allowed]:
                raise Torn(f"read {found}")

        self.change("read", act)

    def clean(self, killed_after: int | None = None) -> None:
        self.baton.add("cleanup", self._clean_up, killed_after=killed_after)

    def play(self, *expected: int) -> None:
        """Runs the threads, repeats what was killed, cleans up a year later, and looks for damage."""
        ended = self.baton.run()
        for name, error in ended.items():
            if error is not None and not isinstance(error, Killed):
                raise Torn(f"{name} ended by {error!r}") from error
        self.store.delete(LOCK)
        for name, act in self.wanted.items():
            if ended[name] is not None:
                act()
        self.store.grow_old()
        self._clean_up()
        if (found := self._opened("end")) != set(expected):
            raise Torn(f"expected {set(expected)}, got {found}")
        head = KnowledgeBase.read(self.store, "beasts").head
        there = {"/".join(key.split("/")[:3]) for key in self.store.keys("artifacts/")}
        if there != {segment.artifact for segment in head.segments}:
            raise Torn(f"expected {head.segments}, got {there}")
        if left := list(self.store.keys("kb/beasts/changes/")):
            raise Torn(f"left {left}")

    def _clean_up(self) -> None:
        clean_up(self.store, BEFORE, roots=knowledge_base_folders)

    def _opened(self, name: str) -> set[int]:
        try:
            folder = self.folder / f"{name}-{len(list(self.folder.iterdir()))}"
            found = open_knowledge_base(self.store, "beasts", folder)
        except CorruptArtifact as error:
            raise Torn(str(error)) from error
        numbers = [int(document.document_id.removeprefix("id")) for document in found.documents]
        if (
            found.tokens[:, 0].tolist() != numbers
            or found.vectors.rows(np.arange(len(found)))[:, 0].tolist() != numbers
        ):
            raise Torn(f"rows of {numbers} are mixed up")
        return set(numbers)


def two_adds_and_a_removal(situation: Situation) -> None:
    """All three change the head. In some cases, one of them is killed and repeated."""
    killed = situation.seed % 3
    after = situation.seed % 25
    situation.add(7, after if killed == 0 else None)
    situation.add(8, after if killed == 1 else None)
    situation.change("remove", lambda: changes.remove(situation.store, "beasts", ["id2"]))
    situation.play(0, 1, 3, 4, 5, 7, 8)


def compaction_and_cleanup(situation: Situation) -> None:
    """A reader meets a compaction whose old segments are removed at once, and an add."""
    changes.remove(situation.store, "beasts", ["id1", "id5"])
    situation.store.grow_old()
    situation.change("compact", lambda: changes.compact(situation.store, "beasts"), situation.seed % 40 or None)
    situation.add(7)
    situation.read((0, 2, 3, 4), (0, 2, 3, 4, 7))
    situation.clean()
    situation.play(0, 2, 3, 4, 7)


def rebuild_and_cleanup(situation: Situation) -> None:
    """A build that was killed long ago is repeated and reuses its segments, beside a cleanup, which may be killed."""
    numbers = range(10, 16)
    try:
        with patch.object(KnowledgeBase, "replace", side_effect=Killed):
            changes.build(situation.store, "beasts", entities(*numbers), ENCODING)
    except Killed:
        pass
    situation.store.grow_old()
    situation.change("build", lambda: changes.build(situation.store, "beasts", entities(*numbers), ENCODING))
    situation.clean(situation.seed % 30 if situation.seed % 2 else None)
    situation.play(*numbers)


SITUATIONS = [two_adds_and_a_removal, compaction_and_cleanup, rebuild_and_cleanup]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_interleaving_damages_a_knowledge_base(
    tmp_path: Path, fault: Fault, situation: Callable[[Situation], None]
) -> None:
    for seed in SEEDS:
        played = Situation(tmp_path / str(seed), seed)
        try:
            situation(played)
        except Torn as error:
            raise AssertionError(f"seed {seed}: {error}; order: {' '.join(played.baton.order)}") from error
    fault(f"knowledge base: {situation.__name__.replace('_', ' ')}", len(SEEDS))


def without_compare_and_swap() -> AbstractContextManager[object]:
    def put(self: Witness, key: str, data: bytes, version: str) -> bool:
        self.put(key, data)
        return True

    return patch.object(Witness, "put_if_unchanged", put)


def without_records() -> AbstractContextManager[object]:
    return patch.object(Run, "write_use", lambda self, manifest, **facts: None)


BROKEN = {
    without_compare_and_swap: two_adds_and_a_removal,
    without_records: rebuild_and_cleanup,
}


@pytest.mark.parametrize("broken", BROKEN)
def test_removing_any_safeguard_damages_a_knowledge_base(
    tmp_path: Path, broken: Callable[[], AbstractContextManager[object]]
) -> None:
    with broken():
        for seed in range(300):
            try:
                BROKEN[broken](Situation(tmp_path / str(seed), seed))
            except Torn:
                return
    raise AssertionError("no order in which it matters was found")


def test_cleanup_keeps_what_the_heads_name(tmp_path: Path) -> None:
    store = Witness(MemoryStore(), Baton(0))
    changes.build(store, "beasts", entities(0, 1), ENCODING)
    changes.build(store, "birds", entities(2), ENCODING)
    named = {name: KnowledgeBase.read(store, name).head.segments[0].artifact for name in ("beasts", "birds")}
    changes.delete(store, "birds")
    store.grow_old()
    clean_up(store, BEFORE, roots=knowledge_base_folders)
    assert [read_manifest_now(store, named[name]) is None for name in ("beasts", "birds")] == [False, True]
