from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.support.faults import Fault
from zeshel_tasks.errors import CorruptArtifact
from zeshel_tasks.store import LocalStore, Store
from zeshel_tasks.store.checksummed import checksummed, read_checksummed


class Note(BaseModel):
    text: str
    numbers: list[float]


NOTE = Note(text="ſealed \ud7ff", numbers=[0.1, 1e-300, 3])


def test_checksummed_object_is_read_back(store: Store) -> None:
    store.put("key", checksummed(NOTE))
    assert read_checksummed(store, "key", Note, "delete it") == NOTE
    assert read_checksummed(store, "another", Note, "delete it") is None


def test_every_flipped_bit_is_detected_or_harmless(tmp_path: Path, fault: Fault) -> None:
    """Flips every bit of the object, one after the other."""
    store, data = LocalStore(tmp_path), checksummed(NOTE)
    for bit in range(8 * len(data)):
        store.put("key", data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
        found: Note | CorruptArtifact
        try:
            found = read_checksummed(store, "key", Note, "delete it")
        except CorruptArtifact as error:
            found = error
        # A space between two fields may become another whitespace character, which is harmless.
        assert found == NOTE or "key: broken; delete it" in str(found), bit
    fault("store: flipped bit in a manifest, record or checkpoint", 8 * len(data))


def test_truncated_object_is_refused(tmp_path: Path, fault: Fault) -> None:
    store, data = LocalStore(tmp_path), checksummed(NOTE)
    for length in range(len(data)):
        store.put("key", data[:length])
        with pytest.raises(CorruptArtifact, match="key: broken; delete it"):
            read_checksummed(store, "key", Note, "delete it")
    fault("store: truncated manifest, record or checkpoint", len(data))


def test_deeply_nested_object_is_refused(store: Store) -> None:
    store.put("key", b"[" * 100_000)
    with pytest.raises(CorruptArtifact, match="broken"):
        read_checksummed(store, "key", Note, "delete it")
