"""The HTTP service under constant load: its pods are replaced, killed, more and fewer, and its champion changes.

Nothing is lost: each request is answered with status 200 by one champion, and no connection breaks, except those to a
pod that is killed.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.cluster.conftest import ACCESS_KEY, RESTRICTED, SECRET_KEY, SMALL, image
from tests.cluster.deployment import BUCKET, DagRun, Deployment, secret_value, stopwatch
from tests.cluster.kubectl import Namespace, eventually, helm
from tests.helm.chart import merged
from zeshel_tasks.champion.champions import Champion, read_champions
from zeshel_tasks.cli import main
from zeshel_tasks.demo.local_airflow.configuration import free_port
from zeshel_tasks.errors import EXIT_OK
from zeshel_tasks.store import open_store

STORE, KB, NAME = f"s3://{BUCKET}/test", "served", "zeshel-serving"
LINES = "/scratch/answers.jsonl"
ENTITIES = [
    {"id": str(number), "title": title, "text": f"{title} is a {kind} ."}
    for number, (title, kind) in enumerate(
        [("Ember", "sword"), ("Quill", "hero"), ("Grove", "forest"), ("Tide", "sea")]
    )
]
ADDED = {"id": "added", "title": "Zorblax", "text": "Zorblax is a robot ."}
Answer = dict[str, Any]


@dataclass
class Service:
    """The service of a deployment.

    Args:
        deployment: what it is part of.
        chart: folder of the chart.
        values: of the chart, without the service.
        folder: for files with values.
        airflow: UID of Airflow's pod before the service was enabled.
    """

    deployment: Deployment
    chart: Path
    values: dict[str, Any]
    folder: Path
    airflow: str

    @property
    def namespace(self) -> Namespace:
        return self.deployment.namespace

    def upgrade(self, **values: Any) -> None:
        """Upgrades the release with these values under ``serving``."""
        usual = {
            "enabled": True, "knowledgeBases": [KB], "replicas": 1, "resources": SMALL, "scratchSize": "2Gi",
            "adminToken": {"enabled": True},
        }  # fmt: skip
        file = self.folder / "values.yaml"
        file.write_text(yaml.safe_dump({**self.values, "serving": merged(usual, values)}))
        where = f"--namespace={self.namespace.name}"
        helm("upgrade", self.deployment.release, str(self.chart), where, f"--values={file}")

    def pods(self) -> list[dict[str, Any]]:
        """The pods that are not being deleted."""
        found = self.namespace.get("pods", "--selector=app.kubernetes.io/component=serving")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self) -> list[str]:
        """Addresses of the pods that the Service leads to."""
        subsets = self.namespace.get("endpoints", NAME).get("subsets", [])
        return [found["ip"] for part in subsets for found in part.get("addresses", [])]

    def wait_until_ready(self, pods: int) -> None:
        """Waits until the Service leads to exactly these pods, and all others have ended."""
        self.namespace.run("rollout", "status", f"deployment/{NAME}", "--timeout=300s")
        component = "--selector=app.kubernetes.io/component=serving"
        eventually(lambda: len(self.namespace.get("pods", component)["items"]) == pods, f"{pods} pods", 120)
        eventually(lambda: len(self.ready()) == pods, f"{pods} addresses", 60)

    def put(self, entity: Mapping[str, str]) -> None:
        """Adds an entity, through the Service."""
        token = secret_value(self.namespace, f"{NAME}-admin", "token")
        port = free_port()
        with self.namespace.forwarded(f"service/{NAME}", 80, port):
            answer = eventually(
                lambda: httpx.put(
                    f"http://127.0.0.1:{port}/v1/kbs/{KB}/entities",
                    json={"entities": [entity]},
                    headers={"Authorization": f"Bearer {token}"},
                    timeout=60,
                    trust_env=False,
                ),
                "an answer",
            )
        assert answer.status_code == 200, answer.text


@dataclass
class Load:
    """The constant load, and its answers."""

    namespace: Namespace
    seen: int = 0
    answers: list[Answer] = field(default_factory=list)

    def read(self) -> list[Answer]:
        """Returns the answers since the last call."""
        lines = self.namespace.run("exec", "load", "--", "tail", f"--lines=+{self.seen + 1}", LINES).splitlines()
        self.seen += len(lines)
        new = list(map(json.loads, lines))
        self.answers += new
        return new

    def now(self) -> float:
        """Returns the time of its clock."""
        return float(self.namespace.run("exec", "load", "--", "date", "+%s.%N"))

    def until(self, done: Any, what: str) -> list[Answer]:
        """Collects answers until ``done`` of the latest ones is true."""
        collected: list[Answer] = []

        def look() -> bool:
            collected.extend(latest := self.read())
            return bool(latest) and bool(done(latest))

        eventually(look, what, 240)
        return collected


@pytest.fixture(scope="module")
def service(
    first_run: DagRun,
    merged_run: DagRun,
    deployment: Deployment,
    chart: Path,
    values: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """The service, enabled by an upgrade. There is a champion, and no knowledge base yet."""
    merged_run.succeed()
    environment = {
        "AWS_ENDPOINT_URL_S3": deployment.s3.meta.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }  # fmt: skip
    airflow = deployment.airflow_pod()["metadata"]["uid"]
    made = Service(deployment, chart, values, tmp_path_factory.mktemp("serving"), airflow)
    with pytest.MonkeyPatch.context() as variables:
        for name, value in environment.items():
            variables.setenv(name, value)
        made.upgrade()
        yield made
        zeshel("kb", "delete", "--name", KB)
    made.upgrade(enabled=False)


@pytest.fixture(scope="module")
def load(service: Service, ready: None) -> Iterator[Load]:
    """The load. It may watch the addresses of the Service, and nothing else."""
    code = (Path(__file__).parent / "service_load.py").read_text()
    container = {
        "name": "load",
        "image": image("zeshel-tasks"),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", code, NAME, KB, "8000", LINES],
        "securityContext": {**RESTRICTED, "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "load"},
        "spec": {
            "serviceAccountName": "load",
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "securityContext": {"fsGroup": 50000},
            "volumes": [{"name": "scratch", "emptyDir": {}}],
        },
    }
    rules = [{"apiGroups": [""], "resources": ["endpoints"], "verbs": ["watch"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "load"}
    subject = {"kind": "ServiceAccount", "name": "load", "namespace": service.namespace.name}
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "load"}}
    service.namespace.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "load"}},
        {**api, "kind": "Role", "rules": rules},
        {**api, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
        pod,
    )
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
    (container,) = pod["status"]["containerStatuses"]
    assert container["restartCount"] == 0
    assert service.deployment.airflow_pod()["metadata"]["uid"] == service.airflow, "the upgrade leaves Airflow alone"


def test_text_is_linked_through_the_service(first_run: DagRun, load: Load) -> None:
    answers = load.until(lambda latest: True, "answers")
    assert_nothing_lost("linking", answers)
    assert {answer["linked_by"]["run"] for answer in answers} == {first_run.name}


def test_upgrade_replaces_the_pod_by_three_under_load(service: Service, load: Load) -> None:
    (before,) = service.ready()
    service.upgrade(replicas=3, settings={"top_k": 3})
    service.wait_until_ready(3)
    answers = load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of three pods")
    assert_nothing_lost("upgrade and 1 to 3 replicas", answers)
    assert before in pods_of(answers)
    assert before not in service.ready()


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
    victims = [pod["metadata"]["name"] for pod in service.pods()][:2]
    service.namespace.run("delete", "pod", *victims, "--grace-period=0", "--force")
    service.wait_until_ready(3)
    answers = load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of three pods")
    assert_nothing_lost("two of three pods are killed", answers, broken_connections=True)
    assert all(map(knows_the_entity, answers))


def test_new_champion_takes_over_under_load(
    service: Service, load: Load, first_run: DagRun, merged_run: DagRun
) -> None:
    """Its bi-encoder is another one, so all entities are encoded again, as the last task of the DAG does."""
    load.read()
    assert read_champions(open_store(STORE)).promote(champion_of(merged_run))
    zeshel("kb", "refresh", "--all")
    answers = load.until(lambda latest: runs_of(latest) == {merged_run.name}, "answers of the new champion only")
    answers += load.until(lambda latest: pods_of(latest) == set(service.ready()), "answers of all pods")
    assert_nothing_lost("a new champion", answers)
    assert runs_of(answers) == {first_run.name, merged_run.name}
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


def pods_of(answers: Any) -> set[str]:
    return {answer["pod"] for answer in answers}


def runs_of(answers: list[Answer]) -> set[str]:
    return {answer["linked_by"]["run"] for answer in answers}


def knows_the_entity(answer: Answer) -> bool:
    return ADDED["id"] in answer["candidates"]


def show(what: str, answers: list[Answer]) -> None:
    """Prints counts."""
    statuses = dict(Counter(answer["status"] for answer in answers))
    errors = Counter(error for answer in answers for error in answer["errors"])
    longest = max(answer["end"] - answer["start"] for answer in answers)
    print(
        f"\n{what}: requests by status {statuses}, broken connections {sum(errors.values())}, longest {longest:.1f} s"
    )
    for error, count in errors.items():
        print(f"  {count} x {error}")


def assert_nothing_lost(what: str, answers: list[Answer], *, broken_connections: bool = False) -> None:
    """Checks that each request was answered by one champion with one state of the knowledge base, and prints counts."""
    show(what, answers)
    assert [answer for answer in answers if answer["status"] != 200] == []
    if not broken_connections:
        assert [answer["errors"] for answer in answers if answer["errors"]] == []
    by = {(answer["linked_by"]["run"], answer["linked_by"]["models"]) for answer in answers}
    assert len(by) == len({run for run, _ in by}) == len({models for _, models in by})
