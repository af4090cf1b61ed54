"""Wrong values are rejected with a message that names the value, the expected form and the actual one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.chart import CHART, KUBERNETES, SHAPES, TRYING_OUT, merged, nested, render, validate
from zeshel_tasks import __version__

STORE = nested("store.address", "s3://bucket/prefix")


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("colour", "red", "additional properties 'colour' not allowed"),
        ("stages.gpuz", 1, "additional properties 'gpuz' not allowed"),
        ("stages.image", "x", "additional properties 'image' not allowed"),
        ("stages.gpus", "2", "got string, want integer"),
        ("stages.gpus", 65, "got 65, want 64"),
        ("stages.gpuResource", "gpu", "'gpu' does not match pattern"),
        ("stages.runAsUser", 0, "got 0, want 1"),
        ("stages.env", {"RETRIES": 3}, "got number, want string"),
        ("stages.env", {"NOT-A-NAME": "x"}, "additional properties 'NOT-A-NAME' not allowed"),
        ("stages.namespace", "My Space", "'My Space' does not match pattern"),
        ("stages.scratchSize", "50 GB", "'50 GB' does not match pattern"),
        ("stages.model.resources.limits", {"memory": "64gb"}, "'64gb' does not match pattern"),
        ("stages.model.resources.limits", {"cpu": 4}, "got number, want string"),
        ("stages.model.resources.limit", {}, "additional properties 'limit' not allowed"),
        ("stages.data.tolerations", [{"key": "a", "effect": "Never"}], "must be one of 'NoSchedule'"),
        ("stages.activeDeadlineSeconds", 0, "got 0, want 1"),
        ("store.address", "/data", "'/data' does not match pattern '^(s3://"),
        ("store.address", "s3://Bucket/x", "does not match pattern '^(s3://"),
        ("store.endpoint", "s3.example.com:9000", "does not match pattern '^(https?://"),
        ("store.endpoint", "http://s3.example.com/bucket", "does not match pattern '^(https?://"),
        ("store.checksums", "never", "must be one of '', 'when_required', 'when_supported'"),
        ("dag.retries", -1, "got -1, want 0"),
        ("dag.retryDelaySeconds", 0, "got 0, want 0"),
        ("dag.schedule", "every day", "'every day' does not match pattern"),
        ("dag.notifier", {"kwargs": {"to": "x"}}, "missing property 'class'"),
        ("dag.pool.slots", 0, "got 0, want 1"),
        ("dag.pool.name", "", "minLength: got 0, want 1"),
        ("images.pullPolicy", "Sometimes", "must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("images.tasks.tag", "a b", "'a b' does not match pattern"),
        ("images.tasks.repository", "docker://x", "does not match pattern"),
        ("images.small", {"repository": "", "tag": "1"}, "images/small'"),
        ("stages.hubCache.hostPath", "cache", "'cache' does not match pattern"),
        ("rbac.subjects", [{"namespace": "airflow"}], "missing property 'name'"),
        ("networkPolicy.hub.cidrs", ["huggingface.co"], "'huggingface.co' does not match pattern"),
        ("networkPolicy.store.ports", [70000], "got 70,000, want 65,535"),
        ("resourceQuota.hard", {"pods": 20}, "got number, want string"),
        ("devStore.bucket", "A", "'A' does not match pattern"),
        ("standalone.service.type", "External", "must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'"),
        ("standalone.replicas", 2, "additional properties 'replicas' not allowed"),
        ("serviceAccounts.airflow.create", "yes", "got string, want boolean"),
        ("airflow.enabled", "true", "got string, want boolean"),
    ],
)
def test_schema_rejects(chart: Path, path: str, value: Any, expected: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as caught:
        render(chart, merged(STORE, nested(path, value)))
    message = str(caught.value)
    assert expected in message
    place = "/".join(["", *path.split(".")[:-1]])  # at least that of the object around it
    assert f"at '{place}" in message


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "store.address: expected s3://bucket/prefix, got nothing"),
        (
            merged(STORE, nested("standalone.enabled", True), nested("airflow.enabled", True)),
            "standalone.enabled and airflow.enabled: expected at most one, got both",
        ),
        (
            merged(nested("devStore.enabled", True), nested("store.endpoint", "http://s3")),
            'store.endpoint: expected nothing, because devStore.enabled sets it; got "http://s3"',
        ),
        (
            merged(STORE, nested("stages.inCluster", False)),
            "stages.connectionId: expected an Airflow connection",
        ),
        (
            merged(STORE, nested("stages.connectionId", "other")),
            'stages.inCluster: expected false, because stages.connectionId is "other"',
        ),
        (
            merged(STORE, nested("dag.deadlineMinutes", 60)),
            "dag.notifier: expected a notifier, because dag.deadlineMinutes is set",
        ),
        (
            merged(STORE, nested("stages.hubCache", {"claimName": "hub", "hostPath": "/hub"})),
            'stages.hubCache: expected claimName or hostPath, got "hub" and "/hub"',
        ),
        (
            merged(STORE, nested("stages.model.resources", {"requests": {"cpu": "8"}, "limits": {"cpu": "7500m"}})),
            "stages.model.resources: expected a request of cpu of at most its limit, 7500m; got 8",
        ),
        (
            merged(STORE, nested("stages.data.resources.requests", {"example.org/fpga": "1"})),
            "stages.data.resources: expected a limit of example.org/fpga equal to its request, 1; got nothing",
        ),
        (
            merged(nested("devStore.enabled", True), nested("store.address", "s3://other/x")),
            'store.address: expected the bucket of devStore.bucket, "zeshel"; got "s3://other/x"',
        ),
        (merged(STORE, nested("resourceQuota.enabled", True)), "resourceQuota.hard: expected limits, got none"),
        (
            merged(STORE, nested("airflow.enabled", True), nested("images.airflow.repository", "registry/x")),
            f"airflow.images.airflow: expected the image of images.airflow, registry/x:{__version__}; "
            f"got localhost/zeshel-airflow:{__version__}",
        ),
        (
            merged(STORE, nested("airflow.enabled", True), nested("store.existingSecret", "my-keys")),
            "airflow.extraEnvFrom: expected a reference to my-keys",
        ),
        (
            merged(STORE, nested("airflow", {"enabled": True, "extraEnvFrom": "- secretRef: {name: x}"})),
            "airflow.extraEnvFrom: expected a reference to zeshel-settings",
        ),
        (
            merged(STORE, nested("airflow", {"enabled": True, "executor": "KubernetesExecutor"})),
            "airflow.allowPodLaunching: expected true with airflow.executor KubernetesExecutor",
        ),
    ],
)
def test_impossible_combinations_are_rejected(chart: Path, values: dict[str, Any], expected: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as caught:
        render(chart, values)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        nested("dag.schedule", "@weekly"),
        nested("dag.schedule", "*/5 0-6 * * 1,3"),
        nested("store.address", "s3://my.bucket-1"),
        nested("store.endpoint", "https://[2001:db8::1]:9000"),
        nested("images.tasks.repository", "registry.example.com:5000/team/tasks"),
        nested("networkPolicy.hub.cidrs", ["0.0.0.0/0", "::/0", "2001:db8::/32", "192.0.2.0/24"]),
        nested("resourceQuota.hard", {"requests.nvidia.com/gpu": "4", "limits.memory": "1.5Ti"}),
        nested("global", {"anything": 1}),
    ],
)
def test_valid_values_are_accepted(chart: Path, values: dict[str, Any]) -> None:
    assert "ConfigMap zeshel-settings" in render(chart, merged(STORE, values)).names()


@pytest.mark.parametrize("values", [{}, {"standalone": {"enabled": True}, "devStore": {"enabled": True}}])
def test_lint_finds_no_problem(chart: Path, values: dict[str, Any]) -> None:
    report = helm_python.lint(chart, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


# Their default is not empty, but they may be: the cluster then decides.
MAY_BE_EMPTY = {
    "stages.runAsUser",
    "devStore.runAsUser",
    "standalone.runAsUser",
    "serving.runAsUser",
    "serving.autoscaling.cpuPercent",
    "serving.topologySpreadConstraints",
    "metrics.dashboard.labels",
    "metrics.dashboard.labels.grafana_dashboard",
    "serving.metrics.dashboard.labels",
}


def settings(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """The path and the default of each value and section, except those of the official chart and of resources."""
    for name, value in values.items():
        inner = f"{path}.{name}".lstrip(".")
        yield inner, value
        if isinstance(value, dict) and inner != "airflow" and name != "resources":
            yield from settings(value, inner)


SETTINGS = dict(settings(yaml.safe_load((CHART / "values.yaml").read_text())))
EMPTY = {path for path, value in SETTINGS.items() if value in ("", [], {}) or path.endswith(".resources")}
NULLS = EMPTY - {"store.address", "standalone.resources"} | MAY_BE_EMPTY


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_value_that_may_not_be_empty_may_not_be_null(chart: Path, depth: int) -> None:
    """Helm leaves it out, so a template would end with a nil pointer, or make another object without a word."""
    required = {path for path in SETTINGS.keys() - NULLS - {"airflow"} if path.count(".") == depth}
    nulls = merged(*(nested(path, None) for path in sorted(required)))
    with pytest.raises(helm_python.HelmValuesError) as caught:
        render(chart, merged(TRYING_OUT, nulls))
    missing = {
        f"{section.replace('/', '.')}.{name}".lstrip(".")
        for section, names in re.findall(r"at '(.*)': missing propert(?:y|ies) (.*)", str(caught.value))
        for name in re.findall(r"'(\w+)'", names)
    }
    assert missing == required - {"store.address"}


@pytest.mark.parametrize("section", [path for path in SETTINGS if "." not in path])
def test_section_may_not_be_null(chart: Path, section: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=rf"missing property '{section}'|/{section}': missing prop"):
        render(chart, merged(TRYING_OUT, {section: None}))


@pytest.mark.parametrize("shape", SHAPES)
def test_null_is_an_empty_value(chart: Path, shape: str) -> None:
    nulls = merged(*(nested(path, None) for path in sorted(NULLS)))
    rendered = render(chart, merged(nulls, SHAPES[shape]), kubernetes=KUBERNETES[0])
    for item in rendered:
        validate(item, KUBERNETES[0])
    data = rendered.one("ConfigMap", "zeshel-settings")["data"]
    usual = render(chart, SHAPES[shape]).one("ConfigMap", "zeshel-settings")["data"]
    assert {name for name in data if data[name] != usual[name]} == {"ZESHEL_PODS"}, "without resources and a user"
