"""The HTTP service on the cluster, and constant load on it."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.conftest import RESTRICTED, SMALL, image
from tests.cluster.deployment import Deployment, secret_value
from tests.cluster.kubectl import Namespace, eventually
from tests.helm.chart import merged
from zeshel_tasks.demo.local_airflow.configuration import free_port

KB, NAME = "served", "zeshel-serving"
LINES = "/scratch/answers.jsonl"
Answer = dict[str, Any]


@dataclass
class Service:
    """The service of a deployment.

    Args:
        deployment: what it is part of.
        airflow: UID of Airflow's pod before the service was enabled.
    """

    deployment: Deployment
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
        self.deployment.release.apply("upgrade", {"serving": merged(usual, values)})

    def pods(self) -> list[dict[str, Any]]:
        """The pods that are not being deleted."""
        found = self.namespace.get("pods", "--selector=app.kubernetes.io/component=serving")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def restarts(self, pod: str) -> int:
        """How often the pod's container was started again."""
        (container,) = self.namespace.get("pod", pod)["status"]["containerStatuses"]
        return int(container["restartCount"])

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

    def until(self, done: Callable[[list[Answer]], bool], what: str) -> list[Answer]:
        """Collects answers until ``done`` of the latest ones is true."""
        collected: list[Answer] = []

        def look() -> bool:
            collected.extend(latest := self.read())
            return bool(latest) and done(latest)

        eventually(look, what, 240)
        return collected


def load_objects(namespace: str) -> list[dict[str, Any]]:
    """Returns the pod of the load. It may watch the addresses of Services, and nothing else."""
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
    subject = {"kind": "ServiceAccount", "name": "load", "namespace": namespace}
    api = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "load"}}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "load"}},
        {**api, "kind": "Role", "rules": rules},
        {**api, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
        pod,
    ]


def pods_of(answers: Iterable[Answer]) -> set[str]:
    return {answer["pod"] for answer in answers}


def runs_of(answers: list[Answer]) -> set[str]:
    return {answer["linked_by"]["run"] for answer in answers}


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
    sets = {tuple(answer["linked_by"][name] for name in ("run", "models", "kb_fingerprint")) for answer in answers}
    assert len({(run, models) for run, models, _ in sets}) == len({run for run, _, _ in sets})
    assert len(sets) == len({content for _, _, content in sets}), "each content has one set of models"
