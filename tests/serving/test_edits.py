"""Changes of knowledge bases by requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest

from tests.serving.conftest import WORLD
from tests.serving.running import ADMIN, SECONDS, Running, document, running
from tests.support.faults import Fault
from tests.support.finished import copy_of
from tests.support.rounds import NIGHTLY, rounds
from zeshel_tasks.errors import ConfigError
from zeshel_tasks.knowledge_base.head import KnowledgeBase
from zeshel_tasks.knowledge_base.opening import open_knowledge_base
from zeshel_tasks.serving import edits
from zeshel_tasks.store import Run, Store
from zeshel_tasks.store.local import LocalStore

ROBOT = {"id": "z1", "title": "Zorblax", "text": "Zorblax is a robot .", "aliases": ["the robot"]}
PATH = f"/v1/kbs/{WORLD}/entities"


@pytest.fixture(scope="module")
def store(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return copy_of(run, tmp_path_factory.mktemp("edited")).store


@pytest.fixture(scope="module")
def edited(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(store, [WORLD], tmp_path_factory.mktemp("edits")) as found:
        yield found


def put(edited: Running, *entities: dict[str, Any]) -> httpx.Response:
    headers = ADMIN | {"Content-Type": "application/json"}
    return edited.client.put(PATH, content=json.dumps({"entities": entities}), headers=headers)


def remove(edited: Running, *ids: str) -> httpx.Response:
    return edited.client.request("DELETE", PATH, json={"ids": ids}, headers=ADMIN)


def candidates(edited: Running) -> set[str]:
    (link,) = edited.links(WORLD, document("They saw Zorblax .", "Zorblax"), top_k=100)
    return {candidate["id"] for candidate in link["candidates"]}


def fingerprint(edited: Running) -> str:
    return str(edited.client.get("/v1/kbs").json()["kbs"][0]["kb_fingerprint"])


def test_added_changed_and_removed(edited: Running, store: Store, tmp_path: Path) -> None:
    before = candidates(edited)
    added = put(edited, ROBOT).json()
    assert (added["added"], added["updated"], added["removed"]) == (1, 0, 0)
    edited.wait(lambda: fingerprint(edited) == added["kb_fingerprint"], "the change")
    assert candidates(edited) == before | {"z1"}
    again = put(edited, ROBOT).json()
    assert (again["added"], again["updated"], again["kb_fingerprint"]) == (0, 0, added["kb_fingerprint"])
    changed = put(edited, ROBOT | {"text": "Zorblax is a planet ."}, ROBOT | {"id": "z2"}).json()
    assert (changed["added"], changed["updated"], changed["entities"]) == (1, 1, added["entities"] + 1)
    assert open_knowledge_base(store, WORLD, tmp_path).documents[-1].document_id == "z2"
    removed = remove(edited, "z1", "z2", "z1", "never known").json()
    assert (removed["removed"], removed["entities"]) == (2, added["entities"] - 1)
    assert remove(edited, "z1").json()["removed"] == 0
    edited.wait(lambda: fingerprint(edited) == removed["kb_fingerprint"], "the removal")
    assert candidates(edited) == before


def test_encoder_is_loaded_once(edited: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    assert put(edited, ROBOT | {"id": "first"}).status_code == 200
    monkeypatch.setattr(edits.EntityEncoder, "load", None)
    assert put(edited, ROBOT | {"id": "second"}).json()["added"] == 1


@pytest.mark.parametrize(
    ("entities", "field", "reason"),
    [
        ([], "entities", "at least 1 item"),
        ([ROBOT, {"id": "z3", "title": "a"}], "entities[1].text", "Field required"),
        ([ROBOT | {"title": "  "}], "entities[0].title", "white space"),
        ([ROBOT | {"id": "NIL"}], "entities[0].id", "means no entity"),
        ([ROBOT | {"id": "a\nb"}], "entities[0].id", "control character"),
        ([ROBOT | {"text": "\ud800"}], "entities[0].text", "unicode"),
        ([ROBOT | {"aliases": "a"}], "entities[0].aliases", "valid list"),
        ([ROBOT | {"score": 1}], "entities[0].score", "Extra inputs"),
        ([ROBOT | {"text": " \x1c\n"}], "entities[0].text", "more than white space"),
        ([ROBOT | {"id": "a" * 1001}], "entities[0].id", "at most 1000 characters"),
        ([ROBOT | {"title": "a" * 1001}], "entities[0].title", "at most 1000 characters"),
        ([ROBOT | {"text": "a" * 1_000_001}], "entities[0].text", "at most 1000000 characters"),
        ([ROBOT | {"url": "a" * 10_001}], "entities[0].url", "at most 10000 characters"),
        ([ROBOT | {"aliases": ["a", "a" * 1001]}], "entities[0].aliases[1]", "at most 1000 characters"),
        ([ROBOT | {"types": ["a" * 1001]}], "entities[0].types[0]", "at most 1000 characters"),
        ([ROBOT | {"aliases": ["a"] * 1001}], "entities[0].aliases", "at most 1000 items"),
        ([ROBOT | {"types": ["a"] * 100_000}], "entities[0].types", "at most 1000 items"),
        ([ROBOT, ROBOT], "entities[1].id", "the same id"),
    ],
)
def test_wrong_entity_is_named_and_nothing_changes(
    edited: Running, store: Store, fault: Fault, entities: list[dict[str, Any]], field: str, reason: str
) -> None:
    fault("service: wrong request")
    before = KnowledgeBase.read(store, WORLD).head
    answer = put(edited, *entities)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert reason in answer.json()["errors"][0]["reason"]
    assert "--" not in answer.json()["detail"]
    assert KnowledgeBase.read(store, WORLD).head == before


def test_only_an_admin_may_change(edited: Running, fault: Fault) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic x"},
        {"Authorization": b"Bearer \xff"},
    ):
        fault("service: no admin token")
        answer = edited.client.put(PATH, json={"entities": [ROBOT]}, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_service_without_a_token_takes_no_changes(edited: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    object.__setattr__(edited.service, "admin_token", None)
    try:
        assert put(edited, ROBOT).status_code == 403
    finally:
        object.__setattr__(edited.service, "admin_token", ADMIN["Authorization"].split()[1])


def test_last_entity_stays(edited: Running, store: Store, tmp_path: Path) -> None:
    everything = [found.document_id for found in open_knowledge_base(store, WORLD, tmp_path).documents]
    answer = remove(edited, *everything)
    assert answer.status_code == 422
    assert "no entity would be left" in answer.json()["detail"]


def test_too_many_changes_are_refused(edited: Running, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("service: too many requests")
    monkeypatch.setattr(edits, "_MOST_WAITING", 0)
    answer = put(edited, ROBOT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")


def refused(answer: httpx.Response) -> None:
    """Checks that a change may be repeated later."""
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5"), answer.text


@pytest.mark.parametrize("lost", ["", "kb/grove", "artifacts/knowledge-base"])
def test_store_that_vanishes_or_is_damaged_is_no_fault_of_the_client(
    edited: Running, store: Store, tmp_path: Path, fault: Fault, lost: str
) -> None:
    """Only part of what a change needs may be lost: a disk that is not mounted, or a restored backup."""
    fault("service: store has vanished")
    place, before = Path(store.address) / lost, KnowledgeBase.read(store, WORLD).head.fingerprint
    edited.wait(lambda: fingerprint(edited) == before, "the changes of earlier tests")
    kept = place.rename(tmp_path / "kept")
    try:
        answers = [put(edited, ROBOT | {"id": "lost"}), remove(edited, "lost")]
        if lost == "kb/grove":  # as `zeshel kb delete` does
            assert [answer.status_code for answer in answers] == [409, 409]
        else:
            for answer in answers:
                refused(answer)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # the follower may have made folders
        kept.rename(place)
    assert (edited.is_ready(), fingerprint(edited)) == (True, before)


def test_store_that_refuses_a_change_is_no_fault_of_the_client(
    edited: Running, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise ConfigError("the bucket may not be written")

    fault("service: store has vanished")
    monkeypatch.setattr(LocalStore, "put_if_unchanged", refuses)
    refused(put(edited, ROBOT | {"id": "refused"}))


def test_time_to_drain_ends_although_a_change_hangs(
    run: Run, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change that hangs is made or not, as after a kill; the one that waits behind it is never begun."""
    fault("service: end of the time after SIGTERM")
    store, begun, may_go, ended = copy_of(run, tmp_path).store, Event(), Event(), Event()
    swap = LocalStore.put_if_unchanged

    def slow_swap(*arguments: Any) -> bool:
        begun.set()
        assert may_go.wait(SECONDS)
        try:
            return swap(*arguments)
        finally:
            ended.set()

    before, answers = KnowledgeBase.read(store, WORLD).head, list[httpx.Response]()
    with running(store, [WORLD], tmp_path / "served", {"drain_seconds": 1}) as edited:
        monkeypatch.setattr(LocalStore, "put_if_unchanged", slow_swap)
        address = f"{edited.client.base_url}{PATH}"

        def change(robot: str) -> None:
            body = {"entities": [ROBOT | {"id": robot}]}
            answers.append(httpx.put(address, json=body, headers=ADMIN, timeout=SECONDS, trust_env=False))

        clients = [Thread(target=change, args=(robot,)) for robot in ("hangs", "waits")]
        clients[0].start()
        assert begun.wait(SECONDS)
        clients[1].start()
        edited.wait(lambda: edited.service.editor._waiting == 2, "a change that waits")
    for client in clients:
        client.join(SECONDS)
    assert [(answer.status_code, answer.headers["retry-after"]) for answer in answers] == [(503, "1")] * 2
    assert not edited.service.drained.is_set()
    assert KnowledgeBase.read(store, WORLD).head == before
    may_go.set()
    assert ended.wait(SECONDS)
    ids = {found.document_id for found in open_knowledge_base(store, WORLD, tmp_path / "opened").documents}
    assert "hangs" in ids
    assert "waits" not in ids


def test_schemathesis_finds_no_fault(edited: Running, tmp_path: Path) -> None:
    """Answers are as the OpenAPI document says, and what it forbids is refused.

    Not all that it allows is accepted: JSON Schema cannot say that offsets are within a text.
    """
    document, examples = f"{edited.client.base_url}/openapi.json", rounds(5, 200)
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        document,
        "--exclude-checks",
        "positive_data_acceptance",
    ]
    command += ["--header", f"Authorization: {ADMIN['Authorization']}", "--max-examples", str(examples)]
    command += ["--no-color"] if NIGHTLY else ["--no-color", "--generation-deterministic"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr
    assert "Tested: 6" in done.stdout
