"""Permissions: roles, their subjects, service accounts, namespaces."""

from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import NAMESPACE, OFFICIAL, SHAPES, STANDALONE, STORE, TRYING_OUT, Object, render


@pytest.mark.parametrize("shape", SHAPES)
def test_role_grants_only_these_permissions(chart: Path, shape: str) -> None:
    assert render(chart, SHAPES[shape]).one("Role", "zeshel-stage-pods")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
    ]


def account(name: str, namespace: str = NAMESPACE) -> Object:
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


@pytest.mark.parametrize(
    ("values", "subjects"),
    [
        (STANDALONE, [account("zeshel-airflow")]),
        (
            {**STANDALONE, "serviceAccounts": {"airflow": {"create": False, "name": "mine"}}},
            [account("mine")],
        ),
        (OFFICIAL, [account("zeshel-triggerer"), account("zeshel-scheduler")]),
        (
            {**STORE, "airflow": {"enabled": True, "executor": "CeleryExecutor"}},
            [account("zeshel-triggerer"), account("zeshel-worker")],
        ),
        (
            {
                **STORE,
                "airflow": {
                    "enabled": True,
                    "executor": "LocalExecutor,KubernetesExecutor",
                    "allowPodLaunching": True,
                    "fullnameOverride": "flow",
                    "workers": {"serviceAccount": {"name": "hands"}},
                },
            },
            [account("flow-triggerer"), account("flow-scheduler"), account("hands")],
        ),
        (
            {**STORE, "rbac": {"subjects": [{"name": "airflow-worker", "namespace": "airflow"}, {"name": "here"}]}},
            [account("airflow-worker", "airflow"), account("here")],
        ),
    ],
    ids=["standalone", "named", "local", "celery", "kubernetes", "existing"],
)
def test_role_is_bound_to_the_accounts_that_run_the_operator(
    chart: Path, values: dict[str, Any], subjects: list[Object]
) -> None:
    binding = render(chart, values).one("RoleBinding", "zeshel-stage-pods")
    assert binding["subjects"] == subjects
    assert binding["roleRef"] == {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "Role",
        "name": "zeshel-stage-pods",
    }


def test_nothing_is_cluster_wide(chart: Path) -> None:
    kinds = {item["kind"] for shape in SHAPES for item in render(chart, SHAPES[shape])}
    assert not kinds & {"ClusterRole", "ClusterRoleBinding", "Namespace", "PersistentVolume"}


def test_stages_can_have_their_own_namespace(chart: Path) -> None:
    quota = {"enabled": True, "hard": {"requests.nvidia.com/gpu": "4"}}
    rendered = render(chart, {**TRYING_OUT, "stages": {"namespace": "gpu"}, "resourceQuota": quota})
    there = {
        f"{item['kind']} {item['metadata']['name']}" for item in rendered if item["metadata"].get("namespace") == "gpu"
    }
    assert there == {
        "Role zeshel-stage-pods",
        "RoleBinding zeshel-stage-pods",
        "ServiceAccount zeshel-stage",
        "NetworkPolicy zeshel-stage",
        "ResourceQuota zeshel",
        "Secret zeshel-store",
    }
    assert rendered.one("RoleBinding", "zeshel-stage-pods")["subjects"] == [account("zeshel-airflow")]
    assert rendered.one("ResourceQuota", "zeshel")["spec"] == {"hard": {"requests.nvidia.com/gpu": "4"}}
    credentials = [item["data"] for item in rendered if item["metadata"]["name"] == "zeshel-store" and "data" in item]
    assert len(credentials) == 2
    assert credentials[0] == credentials[1]


def test_workload_identity_annotates_created_service_accounts(chart: Path) -> None:
    role = {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}
    store = {"address": "s3://bucket/prefix", "serviceAccountAnnotations": role}
    accounts = {"stages": {"annotations": {"own": "1"}}}
    rendered = render(chart, {"store": store, "standalone": {"enabled": True}, "serviceAccounts": accounts})
    assert rendered.one("ServiceAccount", "zeshel-stage")["metadata"]["annotations"] == {**role, "own": "1"}
    assert rendered.one("ServiceAccount", "zeshel-airflow")["metadata"]["annotations"] == role
