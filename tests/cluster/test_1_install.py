"""The chart's Airflow starts with its own service account, which has only the necessary permissions."""

import pytest

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import KubectlFailed, eventually

NEEDED = [
    *((verb, "pods") for verb in ("create", "get", "list", "watch", "patch", "delete")),
    ("get", "pods/log"),
    ("list", "events"),
    ("watch", "events"),
]
FORBIDDEN = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("create", "pods/exec"),
    ("get", "nodes"),
    ("create", "deployments.apps"),
    ("create", "serviceaccounts"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("get", "configmaps"),
]


def may(deployment: Deployment, account: str, verb: str, resource: str, *options: str) -> bool:
    """Returns the answer of ``kubectl auth can-i`` for a service account of the deployment's namespace."""
    user = f"system:serviceaccount:{deployment.namespace.name}:{account}"
    kind, _, part = resource.partition("/")  # kubectl would read pods/exec as a pod named "exec"
    question = [verb, kind, *([f"--subresource={part}"] if part else [])]
    try:
        answer = deployment.namespace.run("auth", "can-i", *question, f"--as={user}", *options)
    except KubectlFailed:  # its exit code is 1 for "no"
        return False
    return answer.strip() == "yes"


def airflow_account(deployment: Deployment) -> str:
    return str(deployment.airflow_pod()["spec"]["serviceAccountName"])


def test_airflow_is_healthy(deployment: Deployment) -> None:
    parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")

    def all_are_healthy() -> bool:
        health = deployment.airflow.health()
        return all(health[part]["status"] == "healthy" for part in parts)

    eventually(all_are_healthy, "a heartbeat of each part of Airflow", 120)


def test_airflow_runs_under_its_own_account(deployment: Deployment) -> None:
    assert airflow_account(deployment) not in ("", "default")


@pytest.mark.parametrize(("verb", "resource"), NEEDED)
def test_airflow_has_the_permissions_that_it_needs(deployment: Deployment, verb: str, resource: str) -> None:
    assert may(deployment, airflow_account(deployment), verb, resource)


@pytest.mark.parametrize(("verb", "resource"), FORBIDDEN)
def test_airflow_has_no_other_permissions(deployment: Deployment, verb: str, resource: str) -> None:
    assert not may(deployment, airflow_account(deployment), verb, resource)


@pytest.mark.parametrize("other", ["default", "kube-system"])
def test_airflow_has_no_permissions_in_other_namespaces(deployment: Deployment, other: str) -> None:
    assert not may(deployment, airflow_account(deployment), "get", "pods", f"--namespace={other}")
    assert not may(deployment, airflow_account(deployment), "create", "pods", f"--namespace={other}")


def test_stages_account_has_no_permissions(deployment: Deployment) -> None:
    assert not any(may(deployment, "zeshel-stage", verb, resource) for verb, resource in [*NEEDED, *FORBIDDEN])
