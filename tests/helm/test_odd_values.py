"""The chart refuses what Kubernetes, Airflow or a container runtime would refuse, and odd valid values work.

The chart is rendered with the engine of Helm 4, and with the program ``helm`` ($HELM, or on PATH) if there is one.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.helm.chart import (
    ALL_OF_SERVING,
    KUBERNETES,
    PROGRAM,
    TRYING_OUT,
    Object,
    Rendered,
    merged,
    nested,
    render,
    rendered_by_program,
    validate,
)

EVERYTHING: Object = {
    **TRYING_OUT,
    "sampleInputs": {"enabled": True},
    "retention": {"enabled": True},
    "serving": ALL_OF_SERVING,
}


def required_node(*terms: Object) -> Object:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(**parts: Any) -> Object:
    return required_node({"matchExpressions": [{"key": "gpu", **parts}]})


LONG_LABEL = "x" * 64
WRONG: list[tuple[str, Any]] = [
    # ports
    ("standalone.service.port", 0),
    ("standalone.service.port", 65536),
    ("networkPolicy.dnsPorts", [0]),
    ("networkPolicy.hub.ports", [65536]),
    ("networkPolicy.hub.ports", []),
    ("networkPolicy.hub.ports", ["https"]),
    ("store.endpoint", "http://s3:65536"),
    ("store.endpoint", "http://s3:0"),
    ("store.endpoint", "http://s3:port"),
    ("store.endpoint", "http://user:password@s3"),
    ("store.endpoint", "http://s3_store"),
    ("store.endpoint", "http://-s3"),
    ("standalone.baseUrl", "http://host:99999"),
    ("standalone.baseUrl", "http://"),
    *(
        ("metrics.endpoint", wrong)
        for wrong in ("collector:4318", "grpc://collector", "http://collector:4318/v1/metrics")
    ),
    ("images.tasks.repository", "registry:70000/tasks"),
    ("networkPolicy.extraEgress", [{"ports": [{"port": 65536}]}]),
    ("networkPolicy.extraEgress", [{"ports": [{"port": "a-name-of-17-chars"}]}]),
    ("networkPolicy.extraEgress", [{"ports": [{"port": 90, "endPort": 80}]}]),
    ("networkPolicy.extraEgress", [{"ports": [{"port": "http", "endPort": 80}]}]),
    ("networkPolicy.extraEgress", [{"ports": [{"protocol": "HTTP"}]}]),
    # addresses
    *(
        ("networkPolicy.hub.cidrs", [wrong])
        for wrong in (
            "999.0.0.0/8",
            "10.0.0.0/33",
            "10.0.0.0",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/08",
            "2001:db8::/129",
            "2001:db8::",
            "1:2:3:4:5:6:7:8::9/64",
            "2001::db8::/32",
            "12345::/16",
            ":/0",
            "",
        )
    ),
    ("networkPolicy.store.cidrs", ["256.1.1.1/32"]),
    ("networkPolicy.extraEgress", [{"to": [{"ipBlock": {"cidr": "10.0.0.0/99"}}]}]),
    ("networkPolicy.extraEgress", [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/99"]}}]}]),
    ("networkPolicy.extraEgress", [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]),
    ("networkPolicy.extraEgress", [{"to": [{}]}]),
    ("networkPolicy.extraEgress", [{"from": []}]),
    # quantities
    *(("stages.scratchSize", wrong) for wrong in ("0", "0Gi", "0.0Gi", "100m", "-1Gi", "1 Gi", "1GB", "1e3", "")),
    ("stages.shmSize", "0"),
    ("devStore.persistence.size", "0"),
    ("standalone.persistence.size", "0Gi"),
    ("stages.model.resources.limits", {"cpu": "4Gi0"}),
    ("stages.model.resources.limits", {"cpu": "0"}),
    ("stages.model.resources.limits", {"memory": "512m"}),
    ("stages.model.resources.limits", {"gpu": "1"}),
    ("stages.model.resources.limits", {"nvidia.com/gpu": "0.5"}),
    ("stages.model.resources", {"requests": {"cpu": "5"}}),
    ("stages.model.resources", {"limits": {"cpu": "3999m"}}),
    ("stages.data.resources", {"limits": {"memory": "8000M"}}),
    ("stages.data.resources", {"requests": {"nvidia.com/gpu": "1"}}),
    ("stages.data.resources", {"requests": {"hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "8Mi"}}),
    ("devStore.resources", {"requests": {"memory": "3Gi"}}),
    ("standalone.resources.triggerer", {"limits": {"memory": "100Mi"}}),
    ("resourceQuota", {"enabled": True, "hard": {"gpus": "4"}}),
    ("resourceQuota", {"enabled": True, "hard": {"pods": "1.5"}}),
    # labels and annotations
    ("stages.labels", {"team": "a b"}),
    ("stages.labels", {"team": LONG_LABEL}),
    ("stages.labels", {"team": "-a"}),
    ("stages.labels", {LONG_LABEL: "a"}),
    ("stages.labels", {"a b": "c"}),
    ("stages.labels", {"Example.org/team": "a"}),
    ("stages.labels", {"a/b/c": "d"}),
    ("stages.labels", {"/a": "b"}),
    ("stages.annotations", {"a b": "c"}),
    ("stages.annotations", {"a": 1}),
    ("store.serviceAccountAnnotations", {"a/b/c": "d"}),
    ("stages.model.nodeSelector", {"gpu": "a,b"}),
    ("standalone.nodeSelector", {"": "x"}),
    # tolerations
    ("stages.model.tolerations", [{"key": "gpu", "operator": "Exists", "value": "x"}]),
    ("stages.model.tolerations", [{"operator": "Equal", "value": "x"}]),
    ("stages.model.tolerations", [{"value": "x"}]),
    ("stages.model.tolerations", [{"key": "", "value": "x"}]),
    ("stages.model.tolerations", [{"key": "a b", "operator": "Exists"}]),
    ("stages.model.tolerations", [{"key": "a", "value": "a b"}]),
    ("stages.model.tolerations", [{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]),
    ("stages.data.tolerations", [{"key": "a", "operator": "Exists", "effect": "NoSchedule", "tolerationSeconds": 5}]),
    ("standalone.tolerations", [{}]),
    # affinity
    ("stages.model.affinity", required_node()),
    ("stages.model.affinity", {"nodeAffinity": {"required": {}}}),
    ("stages.model.affinity", {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}),
    ("stages.model.affinity", expression(operator="Is", values=["a"])),
    ("stages.model.affinity", expression(operator="In")),
    ("stages.model.affinity", expression(operator="In", values=[])),
    ("stages.model.affinity", expression(operator="Exists", values=["a"])),
    ("stages.model.affinity", expression(operator="Gt", values=["many"])),
    ("stages.model.affinity", expression(operator="Gt", values=["1", "2"])),
    ("stages.data.affinity", {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}),
    (
        "standalone.affinity",
        {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 101, "podAffinityTerm": {"topologyKey": "zone"}}
                ]
            }
        },
    ),
    ("networkPolicy.store.pods", {"podSelector": {"app": "s3"}}),
    ("networkPolicy.store.pods", {"podSelector": {"matchLabels": {"app": 1}}}),
    # names
    *(("store.existingSecret", wrong) for wrong in ("a..b", "a.-b", "-a", "A", "a_b", "x" * 254)),
    ("stages.secrets", ["same", "same"]),
    ("stages.secrets", [""]),
    ("images.pullSecrets", ["same", "same"]),
    ("images.tasks.repository", "registry.example.com/Team/tasks"),
    ("images.tasks.repository", "registry.example.com//tasks"),
    ("images.tasks.repository", "tasks/"),
    ("stages.namespace", "x" * 64),
    ("stages.gpuResource", "nvidia.com/"),
    ("stages.gpuResource", "nvidia..com/gpu"),
    ("stages.runAsUser", 2147483648),
    ("devStore.bucket", "a..b"),
    ("devStore.bucket", "192.0.2.1"),
    ("devStore.bucket", "ab"),
    ("store.address", "s3://another/x"),
    ("serviceAccounts", {"airflow": {"name": "same"}, "stages": {"name": "same"}}),
    # the service's
    *(
        ("serving.knowledgeBases", [wrong])
        for wrong in ("", "a/b", "a\\b", " a", "a ", ".", "..", "a\nb", "a\x7f", "x" * 256)
    ),
    ("serving.knowledgeBases", ["same", "same"]),
    ("serving.knowledgeBases", []),
    ("serving.settings", {"port": 80}),
    ("serving.settings", {"wait": False}),
    ("serving.settings", {"kb": "products"}),
    ("serving.settings", {"top_k": 0}),
    ("serving.settings", {"top_k": "5"}),
    ("serving.settings", {"threshold": 1.5}),
    ("serving.settings", {"threshold": "precision=2"}),
    ("serving.settings", {"mode": "fast"}),
    ("serving.settings", {"device": "gpu"}),
    ("serving.settings", {"host": "a.example.org"}),
    ("serving.settings", {"drain_seconds": 3601}),
    ("serving.replicas", -1),
    ("serving.replicas", 1.5),
    ("serving.rollingUpdate", {"maxSurge": "101%"}),
    ("serving.rollingUpdate", {"maxSurge": "one"}),
    ("serving.rollingUpdate", {"maxSurge": 0, "maxUnavailable": "0%"}),
    ("serving.resources", {"requests": {"cpu": "3"}}),
    ("serving.scratchSize", "0"),
    ("serving.runAsUser", 0),
    ("serving.env", {"A": 1}),
    ("serving.labels", {"app.kubernetes.io/component": "stage"}),
    ("serving.labels", {"helm.sh/chart": "x"}),
    ("serving.annotations", {"a b": "c"}),
    ("serving.preStopSeconds", -1),
    ("serving.adminToken", {"enabled": True, "existingSecret": "A"}),
    ("serving.adminToken", {"enabled": True, "token": "in plain sight"}),
    ("serving.clients", [{}]),
    ("serving.clients", [{"ipBlock": {"cidr": "10.0.0.0/33"}}]),
    ("serving.service.port", 0),
    ("serving.service.type", "ExternalName"),
    *(("serving.ingress.host", wrong) for wrong in ("A.example.org", "http://a", "a..b", "a*.b", "192.0.2.1:80", "-a")),
    ("serving.ingress", {"tlsSecret": "cert"}),
    ("serving.httpRoute.parentRefs", []),
    ("serving.httpRoute.parentRefs", [{"namespace": "a"}]),
    ("serving.httpRoute.parentRefs", [{"name": "a", "gateway": "b"}]),
    ("serving.httpRoute.hostnames", ["a b"]),
    ("serving.autoscaling.minReplicas", 0),
    ("serving.autoscaling.minReplicas", 7),
    ("serving.autoscaling.cpuPercent", 0),
    ("serving.autoscaling.cpuPercent", ""),
    ("serving.autoscaling.queue", {"waitingMentions": 0}),
    ("serving.autoscaling.queue", {"waitingMentions": 1, "type": "Object"}),
    ("serving.autoscaling.queue", {"waitingMentions": 1, "labels": {"a": "b"}}),
    ("serving.autoscaling.queue", {"metric": "a b"}),
    ("serving.podDisruptionBudget.maxUnavailable", "half"),
    ("serving.metrics.serviceMonitor.interval", "30"),
    ("serving.metrics.serviceMonitor.labels", {"app.kubernetes.io/name": "x"}),
    ("serving.metrics.dashboard.labels", {"a": 1}),
    (
        "serving.topologySpreadConstraints",
        [{"topologyKey": "zone", "maxSkew": 0, "whenUnsatisfiable": "DoNotSchedule"}],
    ),
    ("serving.topologySpreadConstraints", [{"topologyKey": "zone"}]),
    # Airflow's
    ("dag.schedule", "@never"),
    ("dag.schedule", "0 3 * *"),
    ("dag.schedule", "0 3 * * $"),
    ("dag.scheduleAsset", "s3://a b"),
    ("stages", {"inCluster": False, "connectionId": "a b"}),
]

RIGHT: list[tuple[str, Any]] = [
    ("standalone.service.port", 65535),
    ("standalone.baseUrl", "https://airflow.example.org:8443/team/"),
    ("metrics", {"endpoint": "http://192.0.2.7:4318/", "dashboard": {"enabled": True, "annotations": {"a/b": "1"}}}),
    ("networkPolicy.hub.cidrs", ["0.0.0.0/0", "255.255.255.255/32", "::/0", "::1/128", "2001:db8::/32", "1::8/127"]),
    ("networkPolicy.hub.cidrs", ["0.0.0.0/0", "1:2:3:4:5:6:7:8/64", "1:2:3:4:5:6:7::/112", "FE80::1:2/64"]),
    (
        "networkPolicy.extraEgress",
        [
            {},
            {"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]},
            {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "proxy"}}}]},
            {"ports": [{"protocol": "TCP", "port": 8000, "endPort": 9000}, {"protocol": "UDP", "port": "dns-udp"}]},
        ],
    ),
    ("stages", {"scratchSize": "0.5Ti", "shmSize": "1073741824"}),
    ("stages.runAsUser", 1000680000),
    ("stages.runAsUser", 2147483647),
    ("stages.labels", {"kueue.x-k8s.io/queue-name": "", "Team": "A_b.c-d", "n": "1", "x" * 63: "y" * 63}),
    ("stages.annotations", {"vault.hashicorp.com/agent-inject-template-a": "{{ with secret }}", "Example.org/A": ""}),
    ("stages.data.resources", {"requests": {"cpu": "2000m", "memory": "8192Mi"}}),
    ("stages.data.resources", {"requests": {"cpu": "0.001"}, "limits": {"ephemeral-storage": "1.5G"}}),
    (
        "stages.data.resources",
        {kind: {"example.org/fpga": "1", "hugepages-2Mi": "4Mi"} for kind in ("requests", "limits")},
    ),
    (
        "stages.data.tolerations",
        [{"operator": "Exists"}, {"key": "a", "value": ""}, {"key": "b/c", "operator": "Equal"}],
    ),
    (
        "standalone.tolerations",
        [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1000000}],
    ),
    ("stages.data.affinity", expression(operator="Gt", values=["3"])),
    ("stages.data.affinity", expression(operator="NotIn", values=["a", ""])),
    ("standalone.affinity", expression(operator="DoesNotExist")),
    (
        "standalone.affinity",
        {
            "podAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "namespaces": ["a"]}}
                ]
            }
        },
    ),
    # Names that YAML takes for numbers, booleans or nothing.
    ("store.existingSecret", "123"),
    ("stages", {"namespace": "1e3", "secrets": ["0x1f", "on"]}),
    ("stages.env", {"NO": "true", "Y": "1", "NULL": "~"}),
    ("images.pullSecrets", ["1.5", "null"]),
    ("stages.data.priorityClassName", "true"),
    ("serviceAccounts", {"airflow": {"name": "123"}, "stages": {"name": "off"}}),
    ("standalone.existingSecret", "12"),
    ("standalone.env", {"AIRFLOW__API__WORKERS": "2", "NO": "1"}),
    ("standalone.persistence", {"storageClass": "1", "size": "5"}),
    ("devStore.persistence", {"existingClaim": "123"}),
    ("devStore.bucket", "123a"),
    ("store.address", "s3://zeshel/a,b/[c]/{d}"),
    (
        "resourceQuota",
        {"enabled": True, "hard": {"requests.nvidia.com/gpu": "4", "count/jobs.batch": "9", "pods": "0"}},
    ),
    ("dag.schedule", "*/5 0-6 1,15 JAN-DEC MON#1"),
    ("serving.knowledgeBases", ["true", "1e3", "$(HOME)", "the base of all", "a'b\"c", "\u540d\u524d", "--kb"]),
    ("serving.settings", {"max_body_bytes": 1073741824, "poll_seconds": 0.05, "threshold": "precision=0.95"}),
    ("serving.settings", {"host": "::", "device": "cuda:1", "nil_share": 0, "threshold": 1}),
    ("serving", {"replicas": 0, "autoscaling": {"enabled": False}}),
    ("serving.rollingUpdate", {"maxSurge": "100%", "maxUnavailable": 0}),
    ("serving.rollingUpdate", {"maxSurge": 0, "maxUnavailable": "25%"}),
    ("serving.resources", {"limits": {"memory": "8Gi"}}),
    ("serving", {"runAsUser": "", "priorityClassName": "true", "env": {"NO": "true"}, "labels": {"team": "1"}}),
    ("serving.preStopSeconds", 3600),
    ("serving.gpu", True),
    ("serving.adminToken", {"enabled": True, "existingSecret": "123"}),
    ("serving.clients", [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"namespaceSelector": {}, "podSelector": {}}]),
    ("serving.service", {"type": "LoadBalancer", "port": 65535, "annotations": {"a": "1"}}),
    ("serving.ingress", {"host": "*.example.org", "className": "1", "tlsSecret": "2", "annotations": {"a": "true"}}),
    (
        "serving.httpRoute",
        {"hostnames": ["*.example.org"], "parentRefs": [{"name": "1", "namespace": "2", "port": 443}]},
    ),
    ("serving.autoscaling", {"minReplicas": 1000, "maxReplicas": 1000, "cpuPercent": 10000}),
    ("serving.autoscaling", {"cpuPercent": "", "queue": {"waitingMentions": 1000000, "type": "External"}}),
    ("serving.autoscaling.queue", {"waitingMentions": 1, "metric": "serving:waiting_mentions.mean"}),
    ("serving.podDisruptionBudget.maxUnavailable", "100%"),
    ("serving.metrics", {"annotations": True, "serviceMonitor": {"interval": "1m30s", "labels": {"a": "1"}}}),
    ("serving.metrics.dashboard", {"labels": {"grafana_dashboard": "true"}, "annotations": {"folder": "1"}}),
    (
        "serving.topologySpreadConstraints",
        [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
    ),
]


@pytest.mark.parametrize(("path", "value"), WRONG, ids=str)
def test_wrong_value_is_refused_with_its_place(chart: Path, path: str, value: Any) -> None:
    with pytest.raises((helm_python.HelmValuesError, helm_python.HelmRenderError)) as caught:
        render(chart, merged(EVERYTHING, nested(path, value)))
    message = str(caught.value)
    place = path.split(".")
    assert "/".join(place[:-1]) in message or ".".join(place[:2]) in message


@pytest.fixture(scope="module")
def usual(chart: Path) -> Rendered:
    return render(chart, EVERYTHING, kubernetes=KUBERNETES[0])


@pytest.mark.parametrize(("path", "value"), RIGHT, ids=str)
def test_odd_valid_value_makes_valid_objects(chart: Path, usual: Rendered, path: str, value: Any) -> None:
    rendered = render(chart, merged(EVERYTHING, nested(path, value)), kubernetes=KUBERNETES[0])
    changed = [item for item in rendered if item not in usual.objects]
    assert {item["kind"] for item in changed} - {"Secret"}
    for item in changed:
        validate(item, KUBERNETES[0])
        # Helm's templates write large integers as floating-point numbers, which Kubernetes refuses.
        assert [leaf for leaf in leaves(item) if isinstance(leaf, float)] == []


def leaves(item: Any) -> Iterator[Any]:
    for inner in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from leaves(inner) if isinstance(inner, dict | list) else (inner,)


@pytest.mark.skipif(PROGRAM is None, reason="no program helm")
def test_program_helm_agrees_on_every_value(chart: Path, tmp_path: Path) -> None:
    def accepts(values: Object) -> bool:
        try:
            return bool(rendered_by_program(chart, values, tmp_path))
        except subprocess.CalledProcessError:
            return False

    assert [case for case in WRONG if accepts(merged(EVERYTHING, nested(*case)))] == []
    assert [case for case in RIGHT if not accepts(merged(EVERYTHING, nested(*case)))] == []


@pytest.mark.parametrize("release", ["1x", "a.b"])
def test_release_whose_name_is_not_that_of_a_service_is_refused(chart: Path, release: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="name of the release: expected a letter first"):
        render(chart, EVERYTHING, release)
    assert "ConfigMap" in {item["kind"] for item in render(chart, {"store": {"address": "s3://bucket/x"}}, release)}


def test_settings_of_the_user_replace_those_of_the_standalone_airflow(chart: Path) -> None:
    own = {"AIRFLOW__API__WORKERS": "2", "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "", "MORE": "x"}
    own |= {"AIRFLOW__API__HOST": "::", "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "True"}
    data = render(chart, merged(EVERYTHING, nested("standalone.env", own))).one("ConfigMap", "zeshel-airflow")["data"]
    assert data.items() >= own.items()
    assert data["AIRFLOW__API__PORT"] == "8080"
