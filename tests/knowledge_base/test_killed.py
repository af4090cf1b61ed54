"""A change that is killed at any operation of the store leaves nothing half-done, and the next attempt goes on."""

from pathlib import Path

import pytest

from tests.knowledge_base.conftest import entities
from tests.store.wrapped import AgedStore
from tests.support.faults import Fault
from zeshel_tasks.knowledge_base.changes import build
from zeshel_tasks.knowledge_base.head import Encoding, names
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.knowledge_base.segments import Change


class Killed(BaseException):
    """Ends a change as SIGKILL does."""


def test_killed_change_leaves_the_base_and_is_completed_by_the_next_attempt(
    store: AgedStore, encoding: Encoding, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 0

    def step(operation: str, key: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    store.before, kills, encoded = step, 0, list[int]()
    write = Change._write_encodings

    def counted(self: Change, folder: Path) -> dict[str, object]:
        found = write(self, folder)
        encoded.append(self.encoded)
        return found

    monkeypatch.setattr(Change, "_write_encodings", counted)
    # Each attempt lives a little longer than the one before.
    for left_now in range(1, 1000, 3):
        left = left_now
        try:
            build(store, "beasts", entities(*range(12)), encoding)
        except Killed:
            kills += 1
            left = 0
            if "beasts" in names(store):
                assert len(open_knowledge_base(store, "beasts", tmp_path / "early")) == 12
        else:
            break
    fault("knowledge base: a build is killed", kills)
    assert kills > 10
    assert len(encoded) < kills  # finished segments are reused
    left = 0
    found = open_knowledge_base(store, "beasts", tmp_path / "end")
    assert list(found.documents) == entities(*range(12))
