"""How the HTTP service is reached, what it reaches, and how many pods it has."""

from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import ALL_OF_SERVING, SERVING, TRYING_OUT, Object, merged, nested, render
from tests.helm.served import FOR_OPERATION, NAME, serving
from zeshel_tasks.serving import app


def test_only_the_port_is_open_and_only_the_store_is_reached(chart: Path) -> None:
    values = merged(SERVING, nested("store.endpoint", "http://192.0.2.7:9000"))
    spec = render(chart, values).one("NetworkPolicy", NAME)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]
    dns, store = spec["egress"]
    assert dns["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    assert store == {
        "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}], "ports": [{"protocol": "TCP", "port": 9000}],
    }  # fmt: skip


def test_clients_can_be_limited_and_more_egress_added(chart: Path) -> None:
    clients = [{"namespaceSelector": {"matchLabels": {"team": "search"}}}, {"podSelector": {}}]
    extra = {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}
    values = merged(SERVING, {"serving": {"clients": clients}, "networkPolicy": {"extraEgress": [extra]}})
    spec = render(chart, values).one("NetworkPolicy", NAME)["spec"]
    assert spec["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}], "from": clients}]
    assert spec["egress"][-1] == extra


def test_stages_elsewhere_do_not_change_where_the_service_finds_the_development_store(chart: Path) -> None:
    values = {**TRYING_OUT, "serving": ALL_OF_SERVING}
    here, there = (
        render(chart, merged(values, nested("stages.namespace", namespace))).one("NetworkPolicy", NAME)["spec"]
        for namespace in ("", "gpu")
    )
    assert here == there
    assert "namespaceSelector" not in here["egress"][1]["to"][0]


def test_network_policy_can_be_disabled(chart: Path) -> None:
    rendered = render(chart, merged(SERVING, nested("networkPolicy.enabled", False)))
    assert f"NetworkPolicy {NAME}" not in rendered.names()
    assert "The stages' pods and those of the service have unrestricted network access" in rendered.notes


def public_paths() -> set[str]:
    """The paths of the service for clients."""
    routes = {route.path for route in [*app.api.routes, *app.admin_api.routes]}
    return (routes | app._PAGE.keys() | {"/openapi.json"}) - FOR_OPERATION


def test_ways_from_outside_lead_to_all_paths_but_those_of_operation(chart: Path) -> None:
    rendered = serving(
        chart, ingress={"enabled": True}, httpRoute={"enabled": True, "parentRefs": [{"name": "public"}]}
    )
    (rule,) = rendered.one("Ingress", NAME)["spec"]["rules"]
    paths = {(path["path"], path["pathType"]) for path in rule["http"]["paths"]}
    (route,) = rendered.one("HTTPRoute", NAME)["spec"]["rules"]
    of_route = {(match["path"]["value"], match["path"]["type"].removeprefix("Path")) for match in route["matches"]}
    assert of_route == paths
    exact = {path for path, kind in paths if kind == "Exact"}
    prefixes = {path for path, kind in paths if kind == "Prefix"}

    def is_reached(path: str) -> bool:
        return path in exact or any(path.startswith(f"{prefix}/") for prefix in prefixes)

    assert {path for path in public_paths() | FOR_OPERATION if is_reached(path)} == public_paths()
    assert exact <= public_paths()
    assert route["backendRefs"] == [{"name": NAME, "port": 80}]
    backend = {"service": {"name": NAME, "port": {"name": "http"}}}
    assert all(path["backend"] == backend for path in rule["http"]["paths"])
    assert "it has no authentication except for changes of entities" in rendered.notes


def test_ingress_has_class_host_certificate_and_annotations(chart: Path) -> None:
    values = {
        "enabled": True, "className": "nginx", "host": "links.example.org", "tlsSecret": "cert",
        "annotations": {"a": "b"},
    }  # fmt: skip
    ingress = serving(chart, ingress=values).one("Ingress", NAME)
    assert ingress["metadata"]["annotations"] == {"a": "b"}
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": ["links.example.org"], "secretName": "cert"}]
    assert ingress["spec"]["rules"][0]["host"] == "links.example.org"


def test_route_has_gateways_and_host_names(chart: Path) -> None:
    parents = [{"name": "public", "namespace": "gateways", "sectionName": "https"}]
    values = {"enabled": True, "parentRefs": parents, "hostnames": ["links.example.org"], "annotations": {"a": "b"}}
    route = serving(chart, httpRoute=values).one("HTTPRoute", NAME)
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["metadata"]["annotations"] == {"a": "b"}
    assert {name: route["spec"][name] for name in ("parentRefs", "hostnames")} == {
        "parentRefs": parents, "hostnames": ["links.example.org"],
    }  # fmt: skip


CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}


def queue(kind: str, **selector: Any) -> Object:
    metric = {"name": "zeshel_waiting_mentions", **selector}
    target = {"type": "AverageValue", "averageValue": "64"}
    return {"type": kind, kind.lower(): {"metric": metric, "target": target}}


@pytest.mark.parametrize(
    ("values", "metrics"),
    [
        ({}, [CPU]),
        ({"queue": {"waitingMentions": 64}}, [CPU, queue("Pods")]),
        ({"cpuPercent": "", "queue": {"waitingMentions": 64}}, [queue("Pods")]),
        (
            {"cpuPercent": "", "queue": {"waitingMentions": 64, "type": "External", "labels": {"namespace": "ml"}}},
            [queue("External", selector={"matchLabels": {"namespace": "ml"}})],
        ),
    ],
    ids=["cpu", "both", "pods", "external"],
)
def test_number_of_pods_follows_cpu_time_or_the_queue(chart: Path, values: Object, metrics: list[Object]) -> None:
    rendered = serving(chart, autoscaling={"enabled": True, **values})
    spec = rendered.one("HorizontalPodAutoscaler", NAME)["spec"]
    assert spec["metrics"] == metrics
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 6)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    assert "replicas" not in rendered.one("Deployment", NAME)["spec"]
    assert serving(chart).one("Deployment", NAME)["spec"]["replicas"] == 2


@pytest.mark.parametrize(("kubernetes", "version"), [("1.22", "v2beta2"), ("1.23", "v2"), ("1.37", "v2")])
def test_autoscaler_has_the_version_of_the_cluster(chart: Path, kubernetes: str, version: str) -> None:
    rendered = serving(chart, kubernetes, autoscaling={"enabled": True})
    assert rendered.one("HorizontalPodAutoscaler", NAME)["apiVersion"] == f"autoscaling/{version}"
