"""A service follows the champion and its knowledge bases, and no request notices a switch."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.linking.test_calibration import calibration
from tests.serving.conftest import WORLD
from tests.serving.running import Running, document, running
from tests.support.faults import Fault
from tests.support.finished import copy_of
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.data.zeshel import Document
from zeshel_tasks.errors import ConfigError, DataError, StoreUnavailable
from zeshel_tasks.knowledge_base.calibrating import Own, set_calibration
from zeshel_tasks.knowledge_base.changes import add, build, delete, refresh, remove
from zeshel_tasks.knowledge_base.encoding import encoding_of
from zeshel_tasks.knowledge_base.head import HeadCalibration, KnowledgeBase
from zeshel_tasks.linking.cascade import OwnCalibration
from zeshel_tasks.linking.models import LinkerModels
from zeshel_tasks.serving import follower
from zeshel_tasks.serving.served import ServedBase, ServedModels
from zeshel_tasks.store import Attempt, Run, Store, artifact_folder

ROBOT = Document("z1", "Zorblax", "Zorblax is a robot .")


@pytest.fixture
def store(run: Run, tmp_path: Path) -> Store:
    """A store of its own, because these tests promote champions."""
    return copy_of(run, tmp_path).store


@pytest.fixture
def following(store: Store, tmp_path: Path) -> Iterator[Running]:
    with running(store, [WORLD], tmp_path / "cache") as found:
        yield found


def champion_of(store: Store) -> Champion:
    champion = read_champions(store).champion
    assert champion is not None
    return champion


def promote(store: Store, **changed: Any) -> Champion:
    """Makes a changed copy of the champion the champion."""
    champion = champion_of(store).model_copy(update=changed)
    assert read_champions(store).promote(champion)
    return champion


def with_another_biencoder(store: Store, folder: Path) -> str:
    """Copies the champion's bi-encoder under another fingerprint, and returns its folder."""
    models = LinkerModels.of_champion(store, folder)
    manifest = models.biencoder.manifest.model_dump(exclude={"files"}) | {"fingerprint": "b" * 64}
    attempt = Attempt(store, artifact_folder("train-biencoder", "b" * 64))
    attempt.add_directory("model", models.biencoder.directory("model"))
    attempt.commit(manifest)
    return artifact_folder("train-biencoder", "b" * 64)


def served_run(running: Running) -> str:
    (found,) = running.client.get("/v1/kbs").json()["kbs"]
    return str(found["run"])


def candidates(running: Running) -> set[str]:
    (link,) = running.links(WORLD, document("They saw Zorblax .", "Zorblax"), top_k=100)
    return {candidate["id"] for candidate in link["candidates"]}


def test_new_champion_and_rollback_take_over_under_load(store: Store, following: Running, fault: Fault) -> None:
    """No request fails, and each answer comes whole from one champion."""
    fault("service: new champion under load")
    fault("service: rollback under load")
    text, ended = document("the sword of the old beast", "sword", "beast"), threading.Event()
    answers: list[tuple[int, str, str]] = []

    def load() -> None:
        while not ended.is_set():
            answer = following.link(WORLD, text)
            found = answer.json()
            answers.append((answer.status_code, found["linked_by"]["run"], str(found["documents"])))

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    before = champion_of(store)
    promote(store, run="second", fusion=None, calibration=None)
    following.wait(lambda: {run for _, run, _ in answers} >= {before.run, "second"}, "answers of the new champion")
    seen = len(answers)
    assert read_champions(store).roll_back("a test")
    following.wait(lambda: before.run in {run for _, run, _ in answers[seen + 4 :]}, "answers of the champion before")
    ended.set()
    for client in clients:
        client.join()
    assert Counter(status for status, _, _ in answers).keys() == {200}
    by_run = {run: {links for _, found, links in answers if found == run} for run in (before.run, "second")}
    assert not by_run[before.run] & by_run["second"]
    assert all('"right"' not in links for links in by_run["second"])


def test_entity_that_is_added_elsewhere_is_linkable_and_a_removed_one_is_gone(store: Store, following: Running) -> None:
    before = candidates(following)
    add(store, WORLD, [ROBOT])
    following.wait(lambda: candidates(following) == before | {"z1"}, "the new entity")
    remove(store, WORLD, ["z1"])
    following.wait(lambda: candidates(following) == before, "no such entity")
    folder = following.service.follower._cache / "kb"
    following.wait(lambda: len(list(folder.iterdir())) == 2, "one local copy, beside that of the segments")


def test_champion_with_another_biencoder_waits_for_the_refresh(
    store: Store, following: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before, folder = champion_of(store), with_another_biencoder(store, tmp_path / "models")
    promote(store, run="second", biencoder=folder, fusion=None, calibration=None, retriever=None)
    following.wait(lambda: not following.client.get("/v1/kbs").json()["kbs"][0]["champion"], "another champion")
    assert served_run(following) == before.run
    add(store, WORLD, [ROBOT])  # with the bi-encoder that has encoded the others
    following.wait(lambda: "z1" in candidates(following), "the new entity")
    with running(store, [WORLD], tmp_path / "restarted") as restarted:
        assert served_run(restarted) == before.run
    refresh(store, WORLD, encoding_of(LinkerModels.of_champion(store, tmp_path / "models")))
    following.wait(lambda: served_run(following) == "second", "the new champion")
    assert "z1" in candidates(following)
    assert read_champions(store).roll_back("a test")
    following.wait(lambda: not following.client.get("/v1/kbs").json()["kbs"][0]["champion"], "a rollback")
    assert served_run(following) == "second"  # until the knowledge base is encoded for the champion again


def test_broken_or_silent_store_leaves_the_service_as_it_is(
    store: Store, following: Running, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = served_run(following)

    def fails(_store: Store) -> None:
        raise StoreUnavailable("no answer")

    def errors() -> float:
        (sample,) = [
            line
            for line in following.client.get("/metrics").text.splitlines()
            if line.startswith("zeshel_follow_errors_t")
        ]
        return float(sample.split()[1])

    fault("service: store does not answer")
    monkeypatch.setattr(follower, "read_champions", fails)
    following.wait(lambda: errors() > 1, "failed looks")
    assert served_run(following) == before
    assert following.is_ready()
    monkeypatch.undo()
    fault("service: deleted knowledge base")
    delete(store, WORLD)
    seen = errors()
    following.wait(lambda: errors() > seen + 1, "failed looks")
    assert candidates(following)


def test_nothing_to_serve_is_an_error_at_the_start(store: Store, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="expected a knowledge base of"),
        running(store, ["unknown"], tmp_path / "cache"),
    ):
        pass
    store.delete("models/champion.json")
    with (
        pytest.raises(ConfigError, match="bi-encoder of a champion"),
        running(store, [WORLD], tmp_path / "cache"),
    ):
        pass


def test_waiting_service_is_ready_once_there_is_something_to_serve(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    champions = store.get("models/champion.json")
    assert champions is not None
    store.delete("models/champion.json")
    with running(store, [WORLD, "grovel"], tmp_path / "cache", {"wait": True}, wait=False) as found:
        found.wait(lambda: "bi-encoder of a champion" in caplog.text, "a message about the champion")
        found.wait(lambda: "expected a knowledge base of" in caplog.text, "a message about the knowledge base")
        assert found.client.get("/livez").status_code == 200
        answer = found.client.get("/readyz")
        assert (answer.status_code, "bi-encoder of a champion" in answer.json()["detail"]) == (503, True)
        store.put_if_absent("models/champion.json", champions)
        found.wait(lambda: found.client.get("/v1/kbs").json()["kbs"], "the champion")
        detail = found.client.get("/readyz").json()["detail"]
        assert f"({WORLD}), got 'grovel': did you mean {WORLD}?" in detail
        build(store, "grovel", [ROBOT], encoding_of(LinkerModels.of_champion(store, tmp_path / "models")))
        found.wait(found.is_ready, "both knowledge bases")
        assert "zeshel_follow_errors_total 0.0" in found.client.get("/metrics").text
    assert "served before" not in caplog.text


def test_models_that_cannot_be_loaded_are_tried_ever_more_rarely(
    store: Store, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fault("service: models cannot be loaded")
    caplog.set_level("INFO")
    with running(store, [WORLD], tmp_path / "cache", {"poll_seconds": 60}) as found:
        before, tries, now = served_run(found), list[float](), 0.0

        def fails(*_: Any) -> None:
            tries.append(now)
            raise DataError("broken weights")

        monkeypatch.setattr(ServedModels, "load", fails)
        monkeypatch.setattr(follower, "time", SimpleNamespace(monotonic=lambda: now))
        promote(store, run="second", fusion=None, calibration=None)
        for seconds in range(200):
            now = float(seconds)
            found.service.follower._follow()
        assert served_run(found) == before
        monkeypatch.undo()
    assert tries == [0, 2, 6, 14, 30, 62, 122, 182]
    assert caplog.text.count("loading the models of second") == 1
    assert caplog.text.count("broken weights") == 1


def test_base_that_cannot_be_opened_ends_the_service(store: Store, tmp_path: Path, fault: Fault) -> None:
    fault("service: broken knowledge base")
    for key in list(store.keys("artifacts/knowledge-base/")):
        store.delete(key)
    with running(store, [WORLD], tmp_path / "cache", wait=False) as found:
        found.wait(lambda: found.service.follower.error is not None, "an error")
    assert "segment" in str(found.service.follower.error)


def test_own_calibration_takes_over(store: Store, following: Running) -> None:
    part = calibration({"margin": 0.3})
    own = OwnCalibration(reranked=part, retriever=part, reference=part.reference)
    text = document("the sword of the old beast", "sword", "beast")
    before = following.link(WORLD, text).json()
    assert before["linked_by"]["calibration"] is None
    biencoder = KnowledgeBase.read(store, WORLD).head.encoding.fingerprint
    set_calibration(store, WORLD, own, biencoder, before["linked_by"]["models"], {"mentions": 60})
    following.wait(lambda: following.link(WORLD, text).json()["linked_by"]["calibration"], "the own calibration")
    after = following.link(WORLD, text).json()
    (old, _), (new, _) = (found["documents"][0]["links"] for found in (before, after))
    assert old["probability"] != new["probability"]
    assert old["candidates"] == new["candidates"]
    (listed,) = following.client.get("/v1/kbs").json()["kbs"]
    assert (listed["calibrated_by"], listed["calibration"]) == ("kb", after["linked_by"]["calibration"])


def test_own_calibration_that_does_not_suit_the_threshold_is_not_used(
    following: Running, caplog: pytest.LogCaptureFixture
) -> None:
    base = following.service.follower.bases[WORLD]
    models, part = base.models, calibration({"margin": 0.3})
    config = models.config.model_copy(update={"threshold": "precision=0.95"})
    models = replace(models, loaded=replace(models.loaded, config=config))
    wrong = part.reference.model_copy(update={"correct": (False,) * len(part.reference.correct)})
    own = OwnCalibration(reranked=part.model_copy(update={"reference": wrong}), retriever=part, reference=wrong)
    named = HeadCalibration(models="m", artifact="a", mentions=60)
    found = ServedBase.of(models, base.entities, Own(own, "f"), named)
    assert found.linked_by("rerank")["calibration"] is None
    assert found.named == named
    assert "its own calibration is not used" in caplog.text
