"""The own calibration of a knowledge base."""

from pathlib import Path
from unittest.mock import patch

import pytest

from tests.knowledge_base.conftest import Promote, entities
from tests.linking.test_calibration import calibration
from tests.store.cleanups import BEFORE
from tests.store.wrapped import AgedStore
from zeshel_tasks.commands.gc import roots
from zeshel_tasks.errors import CorruptArtifact, TryAgain
from zeshel_tasks.knowledge_base.calibrating import Own, own_calibration, set_calibration
from zeshel_tasks.knowledge_base.changes import add, build, compact, refresh
from zeshel_tasks.knowledge_base.head import Encoding, HeadCalibration, KnowledgeBase
from zeshel_tasks.linking.cascade import OwnCalibration
from zeshel_tasks.store.artifacts import manifest_key, removed_manifest_key
from zeshel_tasks.store.garbage import clean_up

MODELS = "m" * 64


def own(weight: float = 0.5) -> OwnCalibration:
    part = calibration({"margin": weight})
    return OwnCalibration(reranked=part, retriever=part, reference=part.reference)


@pytest.fixture(autouse=True)
def base(store: AgedStore, encoding: Encoding) -> None:
    build(store, "beasts", entities(*range(3)), encoding)


def calibrate(store: AgedStore, encoding: Encoding, made: OwnCalibration) -> None:
    set_calibration(store, "beasts", made, encoding.fingerprint, MODELS, {"mentions": 70})


def used(store: AgedStore, folder: Path, models: str = MODELS) -> Own | None:
    return own_calibration(KnowledgeBase.read(store, "beasts"), models, folder)


def test_calibration_stays_with_other_entities_and_is_kept_by_a_cleanup(
    store: AgedStore, encoding: Encoding, tmp_path: Path
) -> None:
    assert used(store, tmp_path) is None
    calibrate(store, encoding, own(0.1))
    before = KnowledgeBase.read(store, "beasts").head
    calibrate(store, encoding, own())
    add(store, "beasts", entities(7))
    compact(store, "beasts")
    build(store, "beasts", entities(8, 9), encoding)
    head = KnowledgeBase.read(store, "beasts").head
    assert head.calibration is not None
    assert before.calibration is not None
    assert head.calibration.mentions == 70
    store.grow_old()
    clean_up(store, BEFORE, roots=roots)
    assert store.get(f"{before.calibration.artifact}/manifest.json") is None
    found = used(store, tmp_path)
    assert found is not None
    assert found.calibration == own()
    assert found.fingerprint == head.calibration.artifact.rpartition("/")[2]
    assert not list(store.keys("kb/beasts/changes/"))


def test_another_biencoder_drops_the_calibration(
    store: AgedStore, encoding: Encoding, promote: Promote, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate(store, encoding, own())
    refresh(store, "beasts", promote(store, "b" * 64))
    assert KnowledgeBase.read(store, "beasts").head.calibration is None
    assert "beasts: its calibration was for the earlier bi-encoder and is dropped" in caplog.text


def test_calibration_for_other_models_is_not_used(
    store: AgedStore, encoding: Encoding, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calibrate(store, encoding, own())
    assert used(store, tmp_path, "n" * 64) is None
    assert "beasts: its calibration is for other models and is not used; make one for these" in caplog.text


def test_change_at_the_same_time_is_kept(store: AgedStore, encoding: Encoding, tmp_path: Path) -> None:
    original, news = KnowledgeBase.replace_calibration, iter([5])

    def late(self: KnowledgeBase, named: HeadCalibration) -> bool:
        for number in news:
            add(store, "beasts", entities(number))
        return original(self, named)

    with patch.object(KnowledgeBase, "replace_calibration", late):
        calibrate(store, encoding, own())
    assert KnowledgeBase.read(store, "beasts").head.entities == 4
    assert used(store, tmp_path) is not None


def test_base_that_was_encoded_again_is_not_calibrated(store: AgedStore, encoding: Encoding, promote: Promote) -> None:
    refresh(store, "beasts", promote(store, "b" * 64))
    with pytest.raises(TryAgain, match="beasts: encoded again"):
        calibrate(store, encoding, own())


def test_missing_calibration_is_reported(store: AgedStore, encoding: Encoding, tmp_path: Path) -> None:
    calibrate(store, encoding, own())
    head = KnowledgeBase.read(store, "beasts").head
    assert head.calibration is not None
    store.delete(f"{head.calibration.artifact}/manifest.json")
    with pytest.raises(CorruptArtifact, match="the calibration is missing from the store; make it again"):
        used(store, tmp_path)


def test_calibration_is_read_while_a_cleanup_decides_about_it(
    store: AgedStore, encoding: Encoding, tmp_path: Path
) -> None:
    calibrate(store, encoding, own())
    named = KnowledgeBase.read(store, "beasts").head.calibration
    assert named is not None
    content = store.get(manifest_key(named.artifact))
    assert content is not None
    store.put(removed_manifest_key(named.artifact), content)
    store.delete(manifest_key(named.artifact))
    found = used(store, tmp_path)
    assert found is not None
    assert found.calibration == own()


def test_calibration_that_was_replaced_and_removed_while_it_is_read_is_no_damage(
    store: AgedStore, encoding: Encoding, tmp_path: Path
) -> None:
    calibrate(store, encoding, own(0.1))
    base = KnowledgeBase.read(store, "beasts")
    calibrate(store, encoding, own())
    store.grow_old()
    clean_up(store, BEFORE, roots=roots)
    with pytest.raises(TryAgain, match="knowledge base beasts: others change it; try again"):
        own_calibration(base, MODELS, tmp_path)
