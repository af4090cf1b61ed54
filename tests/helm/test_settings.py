"""The DAG reads the chart's values correctly: chart and code must stay in step."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
from pydantic import BaseModel

from tests.helm.chart import CHART, NAMESPACE, render
from zeshel_tasks import __version__
from zeshel_tasks.orchestration.pod_settings import PodClass, PodSettings
from zeshel_tasks.orchestration.settings import Deployment, read_deployment

STORE = {"address": "s3://bucket/prefix"}
COMPUTED = {"image", "smallImage", "imagePullPolicy", "imagePullSecrets", "namespace", "instance", "serviceAccountName"}
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
Read = Callable[[dict[str, Any]], Deployment]


@pytest.fixture
def variables(chart: Path) -> Callable[[dict[str, Any]], dict[str, str]]:
    """Returns a function that renders the settings ConfigMap for some values."""

    def of(values: dict[str, Any]) -> dict[str, str]:
        data: dict[str, str] = render(chart, values).one("ConfigMap", "zeshel-settings")["data"]
        assert all(isinstance(value, str) for value in data.values())
        return data

    return of


@pytest.fixture
def read(variables: Callable[[dict[str, Any]], dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> Read:
    """Returns a function that reads the deployment for some values, as the DAG would."""

    def of(values: dict[str, Any]) -> Deployment:
        for name, value in variables(values).items():
            monkeypatch.setenv(name, value)
        return read_deployment()

    return of


def pods(deployment: Deployment) -> PodSettings:
    assert deployment.pods is not None
    return deployment.pods


def aliases(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def resolved(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Returns ``schema`` with its reference resolved and without null, which is an empty string in the chart."""
    if reference := schema.get("$ref"):
        schema = dict(root[reference.split("/")[1]][reference.split("/")[2]])
    for choice in schema.get("anyOf", []):
        if choice.get("type") != "null" and choice.get("maxLength") != 0:
            return resolved(choice, root)
    return schema


# -- drift


def test_stages_accept_every_pod_setting_that_the_chart_does_not_compute() -> None:
    assert set(SCHEMA["properties"]["stages"]["properties"]) == aliases(PodSettings) - COMPUTED | {"namespace"}
    assert set(SCHEMA["definitions"]["podClass"]["properties"]) == aliases(PodClass)


def test_schema_has_the_bounds_of_the_pod_settings() -> None:
    model = PodSettings.model_json_schema()
    compared = 0
    for name, own in SCHEMA["properties"]["stages"]["properties"].items():
        own, theirs = resolved(own, SCHEMA), resolved(model["properties"][name], model)
        for bound in ("minimum", "maximum"):
            assert own.get(bound) == theirs.get(bound), f"{bound} of {name}"
            compared += bound in theirs
        if own.get("pattern") and theirs.get("pattern"):
            assert own["pattern"] == theirs["pattern"], name
            compared += 1
    assert compared > 15


def test_schema_has_the_bounds_of_the_dag_settings() -> None:
    model = Deployment.model_json_schema()["properties"]
    names = {
        "maxActiveRuns": "max_active_runs",
        "maxActiveLinks": "max_active_links",
        "retries": "retries",
        "retryDelaySeconds": "retry_delay_seconds",
        "maxRetryDelaySeconds": "max_retry_delay_seconds",
        "deadlineMinutes": "deadline_minutes",
    }
    for own, theirs in names.items():
        schema = SCHEMA["properties"]["dag"]["properties"][own]
        number = resolved(model[theirs], {})
        schema = schema["anyOf"][0] if "anyOf" in schema else schema
        for bound in ("minimum", "maximum", "exclusiveMinimum"):
            assert schema.get(bound) == number.get(bound), f"{bound} of {own}"


def test_defaults_match_the_settings_except_cpu_and_memory(read: Read) -> None:
    deployment = read({"store": STORE})
    made = pods(deployment)
    expected = PodSettings(
        image=f"localhost/zeshel-tasks:{__version__}",
        namespace=NAMESPACE,
        instance="zeshel",
        service_account_name="zeshel-stage",
    )
    without_resources: dict[str, Any] = {"model": {"resources"}, "data": {"resources"}}
    assert made.model_dump(exclude=without_resources) == expected.model_dump(exclude=without_resources)
    for pod_class in (made.model, made.data):
        assert pod_class.resources.requests == pod_class.resources.limits  # see the comment in values.yaml
        assert set(pod_class.resources.requests) == {"cpu", "memory"}
    defaults = Deployment(store="s3://bucket/prefix", runner="kubernetes", pool="zeshel", pods=made)
    assert deployment == defaults


# -- values


@pytest.mark.parametrize(
    ("release", "namespace", "instance"),
    [("prod", "", "prod"), ("prod", "gpu", f"prod.{NAMESPACE}")],
)
def test_release_names_the_instance_of_its_pods_and_its_policy_selects_them(
    chart: Path, release: str, namespace: str, instance: str
) -> None:
    rendered = render(chart, {"store": STORE, "stages": {"namespace": namespace}}, release)
    (policy,) = (item for item in rendered if item["kind"] == "NetworkPolicy")
    (settings,) = (item for item in rendered if "ZESHEL_PODS" in item.get("data", {}))
    selected = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/instance"]
    assert selected == json.loads(settings["data"]["ZESHEL_PODS"])["instance"] == instance


def test_every_dag_value_reaches_the_deployment(read: Read) -> None:
    dag = {
        "schedule": "0 3 * * 0",
        "scheduleAsset": "s3://bucket/zeshel.tar.bz2",
        "deadlineMinutes": 90.5,
        "notifier": {
            "class": "my.Notifier",
            "kwargs": {"to": ["a@example.org"]},
            "late": {"subject": "late"},
            "question": {"subject": "promote it?"},
        },
        "defaults": {"preset": "blink", "train_biencoder.learning_rate": "2e-5", "top_k": 32},
        "linkDefaults": {"kb": "products", "threshold": "0.8"},
        "owner": "ml team",
        "maxActiveRuns": 2,
        "maxActiveLinks": 9,
        "retries": 0,
        "retryDelaySeconds": 0.5,
        "maxRetryDelaySeconds": 86400,
        "pool": {"name": "GPU pool", "slots": 8},
    }
    deployment = read({"store": {"address": "s3://bucket/prefix/"}, "dag": dag})
    assert deployment.store == "s3://bucket/prefix"
    assert deployment.runner == "kubernetes"
    assert deployment.schedule == dag["schedule"]
    assert (deployment.schedule_asset, deployment.deadline_minutes) == (dag["scheduleAsset"], 90.5)
    assert deployment.notifier is not None
    assert deployment.notifier.model_dump(by_alias=True) == dag["notifier"]
    assert deployment.defaults == dag["defaults"]
    assert deployment.link_defaults == dag["linkDefaults"]
    assert (deployment.owner, deployment.pool) == ("ml team", "GPU pool")
    assert (deployment.max_active_runs, deployment.max_active_links, deployment.retries) == (2, 9, 0)
    assert (deployment.retry_delay_seconds, deployment.max_retry_delay_seconds) == (0.5, 86400)


def test_empty_user_is_left_to_the_cluster(read: Read) -> None:
    assert pods(read({"store": STORE, "stages": {"runAsUser": ""}})).run_as_user is None
    assert pods(read({"store": STORE, "stages": {"runAsUser": 1000680000}})).run_as_user == 1000680000


def test_empty_schedule_and_notifier_are_unset(read: Read) -> None:
    deployment = read({"store": STORE})
    unset = (deployment.schedule, deployment.schedule_asset, deployment.deadline_minutes, deployment.notifier)
    assert unset == (None, None, None, None)


def test_pool_slots_are_available_to_the_command_that_creates_the_pool(
    variables: Callable[[dict[str, Any]], dict[str, str]],
) -> None:
    assert variables({"store": STORE, "dag": {"pool": {"slots": 100000}}})["ZESHEL_POOL_SLOTS"] == "100000"


def test_every_stages_value_reaches_the_deployment(read: Read) -> None:
    pod_class = {
        "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "1.5Ti"}},
        "nodeSelector": {"gpu": "a100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"podAntiAffinity": {}},
        "priorityClassName": "batch",
        "podTemplate": {"spec": {"schedulerName": "volcano"}},
    }
    stages = {
        "namespace": "gpu",
        "inCluster": False,
        "connectionId": "other_cluster",
        "env": {"HF_ENDPOINT": "https://hub.example.com"},
        "secrets": ["hub"],
        "labels": {"kueue.x-k8s.io/queue-name": "ml"},
        "annotations": {"note": "x"},
        "gpus": 0,
        "gpuResource": "amd.com/gpu",
        "fixedParams": ["image"],
        "runAsUser": 1001,
        "podTemplate": {"spec": {"runtimeClassName": "gvisor"}},
        "model": pod_class,
        "data": pod_class,
        "hubCache": {"claimName": None, "hostPath": "/var/cache/hub"},
        "scratchSize": "1Ti",
        "shmSize": "64Gi",
        "terminationGracePeriodSeconds": 1,
        "activeDeadlineSeconds": 31536000,
        "scheduleTimeoutSeconds": 2,
        "startupTimeoutSeconds": 3,
        "loggingIntervalSeconds": 4,
        "pollIntervalSeconds": 5,
    }
    images = {
        "small": {"repository": "registry.example.com:5000/small"},
        "tasks": {"repository": "registry.example.com:5000/tasks", "tag": "1.2@sha256:" + "0" * 64},
        "pullPolicy": "Always",
        "pullSecrets": ["login"],
    }
    given = {**stages, "hubCache": {"claimName": "", "hostPath": "/var/cache/hub"}}
    made = pods(read({"store": STORE, "stages": given, "images": images})).model_dump(by_alias=True)
    # Helm merges maps, so other keys keep their values.
    for name in ("model", "data"):
        assert made[name]["resources"]["requests"]["cpu"] == "250m"
        assert made[name]["resources"]["limits"]["memory"] == "1.5Ti"
        made[name]["resources"] = pod_class["resources"]
    assert {name: made[name] for name in stages} == stages
    assert made["image"] == f"{images['tasks']['repository']}:{images['tasks']['tag']}"
    assert made["smallImage"] == f"registry.example.com:5000/small:{__version__}"
    assert (made["imagePullPolicy"], made["imagePullSecrets"]) == ("Always", ["login"])


@pytest.mark.parametrize(
    ("account", "name"),
    [({}, "zeshel-stage"), ({"name": "mine"}, "mine"), ({"create": False}, "default")],
)
def test_stages_run_as_the_configured_account(read: Read, account: dict[str, Any], name: str) -> None:
    assert pods(read({"store": STORE, "serviceAccounts": {"stages": account}})).service_account_name == name


# -- the store


def test_airflow_and_stages_get_the_same_store_settings(
    read: Read, variables: Callable[[dict[str, Any]], dict[str, str]]
) -> None:
    values: dict[str, Any] = {
        "store": {
            **STORE,
            "endpoint": "http://192.0.2.1:9000",
            "region": "eu-west-1",
            "checksums": "when_required",
            "existingSecret": "keys",
        },
        "stages": {"secrets": ["hub"], "env": {"AWS_REGION": "eu-central-1"}},
    }
    expected = {
        "AWS_ENDPOINT_URL_S3": "http://192.0.2.1:9000",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
    assert {name: value for name, value in variables(values).items() if name.startswith("AWS")} == expected
    made = pods(read(values))
    assert made.env == {**expected, "AWS_REGION": "eu-central-1"}  # the stages' own values take precedence
    assert made.secrets == ["keys", "hub"]


def test_endpoint_of_the_store_is_that_of_no_other_service(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    read({"store": {**STORE, "endpoint": "http://192.0.2.1:9000", "region": "eu-west-1"}})  # sets the variables
    session = boto3.Session()
    assert session.client("s3").meta.endpoint_url == "http://192.0.2.1:9000"
    assert session.client("sts").meta.endpoint_url == "https://sts.eu-west-1.amazonaws.com"


def test_store_defaults_to_aws_with_workload_identity(
    read: Read, variables: Callable[[dict[str, Any]], dict[str, str]]
) -> None:
    assert not [name for name in variables({"store": STORE}) if name.startswith("AWS")]
    made = pods(read({"store": STORE}))
    assert (made.env, made.secrets) == ({}, [])


def test_development_store_needs_no_settings(read: Read) -> None:
    deployment = read({"devStore": {"enabled": True}})
    made = pods(deployment)
    assert deployment.store == "s3://zeshel"
    assert made.env["AWS_ENDPOINT_URL_S3"] == "http://zeshel-store.ml.svc:8333"
    assert made.env["AWS_REGION"] == "us-east-1"
    assert made.secrets == ["zeshel-store"]
