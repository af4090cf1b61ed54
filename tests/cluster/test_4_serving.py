"""The HTTP service under constant load: its pods are replaced, killed, more and fewer, and its champion changes.

Nothing is lost: each request is answered with status 200 by one champion, and no connection breaks, except those to a
pod that is killed.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cluster.conftest import ACCESS_KEY, SECRET_KEY
from tests.cluster.deployment import BUCKET, DagRun, Deployment, stopwatch
from tests.cluster.kubectl import KubectlFailed, eventually
from tests.cluster.serving import (
    KB,
    NAME,
    Answer,
    Load,
    Service,
    assert_nothing_lost,
    load_objects,
    pods_of,
    runs_of,
    show,
)
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.store import open_store

STORE = f"s3://{BUCKET}/test"
ENTITIES = [
    {"id": str(number), "title": title, "text": f"{title} is a {kind} ."}
    for number, (title, kind) in enumerate(
        [("Ember", "sword"), ("Quill", "hero"), ("Grove", "forest"), ("Tide", "sea")]
    )
]
ADDED = {"id": "added", "title": "Zorblax", "text": "Zorblax is a robot ."}
# Small processes fill the memory of a container. Its kernel kills the first process, which is made the likeliest.
RUN_OUT_OF_MEMORY = """
import os, pathlib, time
pathlib.Path("/proc/1/oom_score_adj").write_text("1000")
for _ in range(64):
    if os.fork() == 0:
        filled = b"x" * (128 << 20)
        time.sleep(60)
        os._exit(0)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def service(
    first_run: DagRun,
    merged_run: DagRun,
    deployment: Deployment,
    authorities: Path,
) -> Iterator[Service]:
    """The service, enabled by an upgrade. There is a champion, and no knowledge base yet."""
    merged_run.succeed()
    environment = {
        "AWS_ENDPOINT_URL_S3": deployment.s3.meta.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_CA_BUNDLE": str(authorities),
    }  # fmt: skip
    airflow = deployment.airflow_pod()["metadata"]["uid"]
    made = Service(deployment, airflow)
    with pytest.MonkeyPatch.context() as variables:
        for name, value in environment.items():
            variables.setenv(name, value)
        made.upgrade()
        yield made
        zeshel("kb", "delete", "--name", KB)
    made.upgrade(enabled=False)


@pytest.fixture(scope="module")
def load(service: Service, ready: None) -> Iterator[Load]:
    """The load, from now on."""
    service.namespace.apply(*load_objects(service.namespace.name))
    service.namespace.run("wait", "pod/load", "--for=condition=Ready", "--timeout=120s")
    made = Load(service.namespace)
    eventually(lambda: bool(made.read()), "an answer", 120)
    yield made
    show("all together", made.answers)
    service.namespace.run("delete", "pod", "load", "--wait=false")


@pytest.fixture(scope="module")
def ready(service: Service, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The service is ready, after it has waited for its knowledge base."""
    eventually(lambda: "waiting: " in service.namespace.run("logs", f"deployment/{NAME}"), "a log", 180)
    assert service.ready() == []
    file = tmp_path_factory.mktemp("entities") / "entities.jsonl"
    file.write_text("\n".join(map(json.dumps, ENTITIES)))
    zeshel("kb", "build", "--name", KB, "--format", "jsonl", str(file))
    seconds = stopwatch()
    service.wait_until_ready(1)
    print(f"\nready {seconds():.0f} s after its knowledge base was there")


@pytest.mark.usefixtures("ready")
def test_service_that_is_enabled_before_its_knowledge_base_waits_for_it(service: Service) -> None:
    (pod,) = service.pods()
    assert service.restarts(pod["metadata"]["name"]) == 0
    assert service.deployment.airflow_pod()["metadata"]["uid"] == service.airflow, "the upgrade leaves Airflow alone"


def test_text_is_linked_through_the_service(first_run: DagRun, load: Load) -> None:
    answers = load.until(lambda latest: True, "answers")
    assert_nothing_lost("linking", answers)
    assert {answer["linked_by"]["run"] for answer in answers} == {first_run.name}


def test_upgrade_replaces_the_pod_under_load(service: Service, load: Load) -> None:
    (before,) = service.ready()
    service.upgrade(settings={"top_k": 3})
    service.wait_until_ready(1)
    answers = load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of the new pod only")
    assert_nothing_lost("an upgrade", answers)
    assert pods_of(answers) == {before, *service.ready()}


def test_more_replicas_share_the_load(service: Service, load: Load) -> None:
    load.read()
    service.upgrade(settings={"top_k": 3}, replicas=3)
    service.wait_until_ready(3)
    answers = load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of three pods")
    assert_nothing_lost("1 to 3 replicas", answers)


def test_added_entity_is_linkable_on_all_replicas(service: Service, load: Load) -> None:
    load.read()
    begin = load.now()
    service.put(ADDED)
    answers = load.until(
        lambda latest: pods_of(filter(knows_the_entity, latest)) == set(service.ready()), "the entity on each replica"
    )
    assert_nothing_lost("an entity is added", answers)
    late = max((answer["start"] for answer in answers if not knows_the_entity(answer)), default=begin)
    print(f"all replicas link it {late - begin:.1f} s after the request to add it began")


def test_killed_replicas_lose_no_request_and_no_entity(service: Service, load: Load) -> None:
    load.read()
    lost, killed, _ = (pod["metadata"]["name"] for pod in service.pods())
    service.namespace.run("delete", "pod", lost, "--grace-period=0", "--force")
    with suppress(KubectlFailed):  # its process ends with the container
        service.namespace.run("exec", killed, "--", "python", "-c", RUN_OUT_OF_MEMORY)
    eventually(lambda: service.restarts(killed) == 1, "a restart of the killed container", 120)
    service.wait_until_ready(3)
    answers = load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of three pods")
    assert_nothing_lost("one of three pods is lost, one is killed", answers, broken_connections=True)
    assert all(map(knows_the_entity, answers))


def test_new_champion_takes_over_under_load(
    service: Service, load: Load, first_run: DagRun, merged_run: DagRun
) -> None:
    """Its bi-encoder is another one, so all entities are encoded again, as the last task of the DAG does."""
    load.read()
    assert read_champions(open_store(STORE)).promote(champion_of(merged_run))
    zeshel("kb", "refresh", "--all")
    refreshed = load.now()
    answers = load.until(lambda latest: runs_of(latest) == {merged_run.name}, "answers of the new champion only")
    answers += load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of all pods")
    assert_nothing_lost("a new champion", answers)
    assert runs_of(answers) == {first_run.name, merged_run.name}
    last = max(answer["end"] for answer in answers if answer["linked_by"]["run"] == first_run.name)
    print(f"the last answer of the earlier champion came {last - refreshed:.1f} s after the refresh")
    assert all(map(knows_the_entity, answers))


def test_earlier_champion_returns_under_load(service: Service, load: Load, first_run: DagRun) -> None:
    load.read()
    zeshel("rollback", "--reason", "a test")
    zeshel("kb", "refresh", "--all")
    answers = load.until(lambda latest: runs_of(latest) == {first_run.name}, "answers of the earlier champion only")
    answers += load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of all pods")
    assert_nothing_lost("a rollback", answers)
    assert all(map(knows_the_entity, answers))


def test_autoscaling_begins_with_the_number_of_pods_that_there_is(service: Service) -> None:
    service.upgrade(settings={"top_k": 3}, autoscaling={"enabled": True, "minReplicas": 1, "maxReplicas": 3})
    assert service.namespace.get("deployment", NAME)["spec"]["replicas"] == 3


def test_replicas_end_without_a_broken_connection(service: Service, load: Load) -> None:
    load.read()
    service.upgrade(settings={"top_k": 3})
    service.wait_until_ready(1)
    answers = load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of one pod")
    assert_nothing_lost("3 to 1 replicas", answers)
    assert all(map(knows_the_entity, answers))


def knows_the_entity(answer: Answer) -> bool:
    return ADDED["id"] in answer["candidates"]


def zeshel(*arguments: str) -> None:
    """Runs a command on the store."""
    assert main([*arguments, "--store", STORE]) == EXIT_OK


def champion_of(run: DagRun) -> Champion:
    """The models of a run as a champion."""
    stages = {
        "biencoder": "train-biencoder", "retriever": "fit-retrieval", "crossencoder": "train-crossencoder",
        "fusion": "fuse", "calibration": "calibrate",
    }  # fmt: skip
    folders = {name: run.record(stage)["artifact"] for name, stage in stages.items()}
    return Champion(run=run.name, promoted_at="2026-01-01T00:00:00+00:00", decision={"reason": "a test"}, **folders)
