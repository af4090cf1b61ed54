"""A large knowledge base is cut into segments, which other machines encode. Nothing changes before that is done."""

from pathlib import Path

import pytest

from tests.knowledge_base.conftest import Promote, entities, entity
from tests.store.cleanups import BEFORE
from tests.store.wrapped import AgedStore
from zeshel_tasks.cli import main
from zeshel_tasks.commands.gc import roots
from zeshel_tasks.data.zeshel import document_line
from zeshel_tasks.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from zeshel_tasks.knowledge_base.changes import add, build, compact, refresh
from zeshel_tasks.knowledge_base.cuts import cut_of, encode_segments, encoded_segment, segment_names
from zeshel_tasks.knowledge_base.head import Encoding, Head, KnowledgeBase
from zeshel_tasks.store import LocalStore, Store
from zeshel_tasks.store.artifacts import read_manifest
from zeshel_tasks.store.garbage import clean_up


def head(store: Store) -> Head:
    return KnowledgeBase.read(store, "beasts").head


def hashes(store: Store) -> list[dict[str, str]]:
    """The SHA-256 of each file of the segments."""
    manifests = [read_manifest(store, segment.artifact) for segment in head(store).segments]
    return [{name: file.sha256 for name, file in manifest.files.items()} for manifest in manifests if manifest]


def missing(store: Store, record: str) -> list[int]:
    cut = cut_of(store, "beasts", record)
    assert cut is not None
    numbers = range(len(segment_names("beasts", cut)))
    return [number for number in numbers if encoded_segment(store, cut, number) is None]


def test_segments_encoded_elsewhere_have_the_bits_of_a_build_in_one_process(
    store: AgedStore, encoding: Encoding, promote: Promote, tmp_path: Path
) -> None:
    cut = build(store, "beasts", entities(*range(10)), encoding, sharded_from=9, record="r")
    assert (cut.entities, cut.cut, cut.encoded) == (0, 3, 0)
    assert not KnowledgeBase.read(store, "beasts").exists
    assert [encode_segments(store, "beasts", "r", numbers) for numbers in ([1], [2, 0], [1])] == [4, 6, 0]
    built = build(store, "beasts", entities(*range(10)), encoding, record="r")
    assert (built.entities, built.cut, built.encoded) == (10, 0, 0)
    whole = AgedStore(LocalStore(tmp_path / "whole"))
    promote(whole, "a" * 64)
    assert build(whole, "beasts", entities(*range(10)), encoding).encoded == 10
    assert head(store).segments == head(whole).segments
    assert head(store).fingerprint == head(whole).fingerprint
    assert hashes(store) == hashes(whole)
    assert len(hashes(store)) == 3
    assert not list(store.keys("kb/beasts/changes/"))


def test_what_nobody_has_encoded_is_encoded_at_the_end(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(*range(10)), encoding, sharded_from=9, record="r")
    encode_segments(store, "beasts", "r", [1])
    assert build(store, "beasts", entities(*range(10)), encoding, record="r").encoded == 6


def test_few_entities_are_encoded_at_once(store: AgedStore, encoding: Encoding) -> None:
    built = build(store, "beasts", entities(*range(10)), encoding, sharded_from=10, record="r")
    assert (built.entities, built.cut, built.encoded) == (10, 0, 10)
    assert cut_of(store, "beasts", "r") is None


def test_entities_at_the_end_leave_only_their_segments_to_encode(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(*range(10)), encoding)
    build(store, "beasts", entities(*range(13)), encoding, sharded_from=5, record="r")
    assert missing(store, "r") == [2, 3]


def test_refresh_is_cut_and_keeps_what_is_added_meanwhile(
    store: AgedStore, encoding: Encoding, promote: Promote
) -> None:
    build(store, "beasts", entities(*range(10)), encoding)
    other = promote(store, "b" * 64)
    cut = refresh(store, "beasts", other, sharded_from=9, record="r")
    assert (cut.entities, cut.cut) == (10, 3)
    assert head(store).encoding == encoding, "nothing has changed"
    assert encode_segments(store, "beasts", "r", missing(store, "r")) == 10
    add(store, "beasts", [entity(20)])
    done = refresh(store, "beasts", other, record="r")
    assert (done.entities, done.encoded) == (11, 3), "the last segment has one more entity"
    assert head(store).encoding == other
    assert not list(store.keys("kb/beasts/changes/"))


def test_records_of_a_refresh_that_was_killed_at_its_end_are_removed(
    store: AgedStore, encoding: Encoding, promote: Promote
) -> None:
    build(store, "beasts", entities(*range(10)), encoding)
    other = promote(store, "b" * 64)
    refresh(store, "beasts", other, sharded_from=9, record="r")
    refresh(store, "beasts", other)  # as if it had not removed them
    assert cut_of(store, "beasts", "r") is not None
    assert refresh(store, "beasts", other, record="r").encoded == 0
    assert cut_of(store, "beasts", "r") is None


def test_cleanup_keeps_what_is_cut_until_it_is_old(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(*range(3)), encoding)
    build(store, "beasts", entities(*range(10)), encoding, sharded_from=9, record="r")
    clean_up(store, BEFORE, roots=roots)
    encode_segments(store, "beasts", "r", [0])
    store.grow_old()
    removed = clean_up(store, BEFORE, roots=roots).removed
    assert "left by a change" in {garbage.reason for garbage in removed}
    assert not list(store.keys("kb/beasts/changes/"))
    assert not list(store.keys("artifacts/entity-shards/"))
    assert compact(store, "beasts").entities == 3


def test_command_cuts_encodes_and_publishes(
    store: AgedStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kb(action: str, *arguments: str) -> str:
        assert main(["kb", action, "--store", store.address, "--record", "links-r1", *arguments]) == EXIT_OK
        return capsys.readouterr().out

    documents = tmp_path / "documents.json"
    documents.write_bytes(b"".join(map(document_line, entities(*range(6)))))
    built = ["--name", "beasts", str(documents)]
    assert "beasts: cut into 2 segments; nothing has changed" in kb("build", *built, "--sharded_from", "5")
    kb("encode-segment", "--segment", "beasts/1", "--segment", "beasts/0")
    assert "beasts: 6 entities (6 added, 0 encoded)\n" in kb("build", *built)
    assert head(store).entities == 6


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["refresh", "--name", "beasts", "--sharded_from", "5"], "--sharded_from: expected it together with --record"),
        (["encode-segment", "--record", "q", "--segment", "beasts/0"], "--record: expected one that has cut the"),
        (["encode-segment", "--record", "r", "--segment", "beasts/3"], "expected one of 3 segments, got beasts/3"),
        (["encode-segment", "--record", "r", "--segment", "beasts"], "expected a segment such as products/7"),
        (["encode-segment", "--record", "../r", "--segment", "beasts/0"], "expected a name of letters, digits"),
    ],
)
def test_wrong_argument_is_named(
    store: AgedStore, encoding: Encoding, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    build(store, "beasts", entities(*range(10)), encoding, sharded_from=9, record="r")
    assert main(["kb", arguments[0], "--store", store.address, *arguments[1:]]) == EXIT_CONFIG
    printed = capsys.readouterr()
    assert problem in printed.out + printed.err


def test_deleted_biencoder_is_named(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(*range(10)), encoding, sharded_from=9, record="r")
    store.delete(f"{encoding.biencoder}/manifest.json")
    with pytest.raises(ConfigError, match="expected the bi-encoder of the knowledge base beasts"):
        encode_segments(store, "beasts", "r", [0])
