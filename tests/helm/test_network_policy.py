"""The network access of the stages' pods."""

from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.helm.chart import Object, render

ANYWHERE = [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
HUB = {"to": ANYWHERE, "ports": [{"protocol": "TCP", "port": 443}]}


def egress(chart: Path, values: dict[str, Any]) -> list[Object]:
    spec = render(chart, values).one("NetworkPolicy", "zeshel-stage")["spec"]
    assert spec["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/name": "zeshel",
        "app.kubernetes.io/instance": "zeshel.ml" if "stages" in values else "zeshel",
        "app.kubernetes.io/component": "stage",
    }
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == []
    dns, *others = spec["egress"]
    assert dns["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]
    return list(others)


def store(**values: Any) -> dict[str, Any]:
    return {"store": {"address": "s3://bucket/prefix", **values}}


@pytest.mark.parametrize(
    ("endpoint", "cidrs", "port"),
    [
        ("", ["0.0.0.0/0", "::/0"], 443),
        ("https://s3.example.com", ["0.0.0.0/0", "::/0"], 443),
        ("http://s3.example.com", ["0.0.0.0/0", "::/0"], 80),
        ("http://s3.example.com:9000/", ["0.0.0.0/0", "::/0"], 9000),
        ("http://192.0.2.7:9000", ["192.0.2.7/32"], 9000),
        ("https://192.0.2.7", ["192.0.2.7/32"], 443),
        ("http://[2001:db8::7]:9000", ["2001:db8::7/128"], 9000),
        ("https://[2001:db8::7]/", ["2001:db8::7/128"], 443),
    ],
)
def test_endpoint_determines_egress_to_the_store(chart: Path, endpoint: str, cidrs: list[str], port: int) -> None:
    rule = {"to": [{"ipBlock": {"cidr": cidr}} for cidr in cidrs], "ports": [{"protocol": "TCP", "port": port}]}
    assert egress(chart, store(endpoint=endpoint)) == [rule, HUB]


def test_addresses_and_ports_can_be_set(chart: Path) -> None:
    policy = {
        "store": {"cidrs": ["192.0.2.0/24", "2001:db8::/32"], "ports": [443, 8443]},
        "hub": {"cidrs": ["198.51.100.0/24"], "ports": [3128]},
    }
    assert egress(chart, {**store(), "networkPolicy": policy}) == [
        {
            "to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}, {"ipBlock": {"cidr": "2001:db8::/32"}}],
            "ports": [{"protocol": "TCP", "port": 443}, {"protocol": "TCP", "port": 8443}],
        },
        {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"protocol": "TCP", "port": 3128}]},
    ]


def test_store_in_the_cluster_is_selected_by_its_pods(chart: Path) -> None:
    pods = {"namespaceSelector": {"matchLabels": {"team": "storage"}}, "podSelector": {"matchLabels": {"app": "s3"}}}
    policy = {"store": {"pods": pods, "ports": [9000]}}
    rule = {"to": [pods], "ports": [{"protocol": "TCP", "port": 9000}]}
    assert egress(chart, {**store(endpoint="http://s3.storage.svc"), "networkPolicy": policy}) == [rule, HUB]


def test_development_store_is_allowed_automatically(chart: Path) -> None:
    labels = {
        "app.kubernetes.io/name": "zeshel",
        "app.kubernetes.io/instance": "zeshel",
        "app.kubernetes.io/component": "store",
    }
    pods: Object = {"podSelector": {"matchLabels": labels}}
    port = [{"protocol": "TCP", "port": 8333}]
    values: dict[str, Any] = {"devStore": {"enabled": True}}
    assert egress(chart, values) == [{"to": [pods], "ports": port}, HUB]
    elsewhere = {**pods, "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ml"}}}
    assert egress(chart, {**values, "stages": {"namespace": "gpu"}}) == [{"to": [elsewhere], "ports": port}, HUB]


CLOSED: Object = {"hub": {"cidrs": []}}


def test_hub_can_be_blocked_and_other_rules_added(chart: Path) -> None:
    extra = {"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}
    policy = {**CLOSED, "store": {"cidrs": ["192.0.2.0/24"]}, "extraEgress": [extra]}
    own = {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"protocol": "TCP", "port": 443}]}
    assert egress(chart, {**store(), "networkPolicy": policy}) == [own, extra]


@pytest.mark.parametrize("hub", [[], ["198.51.100.0/24"], ["::/0"]], ids=str)
@pytest.mark.parametrize("endpoint", ["", "https://s3.example.com"])
def test_limited_hub_needs_the_addresses_of_the_store(chart: Path, endpoint: str, hub: list[str]) -> None:
    with pytest.raises(
        helm_python.HelmRenderError, match=r"networkPolicy\.store\.cidrs: expected the store's addresses"
    ):
        egress(chart, {**store(endpoint=endpoint), "networkPolicy": {"hub": {"cidrs": hub}}})


@pytest.mark.parametrize(
    "values",
    [
        {**store(endpoint="https://192.0.2.7"), "networkPolicy": CLOSED},
        {**store(endpoint="https://[2001:db8::7]"), "networkPolicy": CLOSED},
        {**store(), "networkPolicy": {**CLOSED, "store": {"cidrs": ["192.0.2.0/24"]}}},
        {**store(), "networkPolicy": {**CLOSED, "store": {"pods": {"podSelector": {"matchLabels": {"app": "s3"}}}}}},
        {"devStore": {"enabled": True}, "networkPolicy": CLOSED},
    ],
    ids=["IPv4", "IPv6", "cidrs", "pods", "devStore"],
)
def test_blocked_hub_leaves_no_address_open(chart: Path, values: Object) -> None:
    rules = egress(chart, values)
    assert [peer for rule in rules for peer in rule["to"] if peer in ANYWHERE] == []
    assert len(rules) == 1


def test_addresses_and_pods_of_the_store_exclude_each_other(chart: Path) -> None:
    policy = {"store": {"cidrs": ["192.0.2.0/24"], "pods": {"podSelector": {}}}}
    with pytest.raises(helm_python.HelmRenderError, match=r"networkPolicy\.store: expected cidrs or pods, got both"):
        egress(chart, {**store(), "networkPolicy": policy})


def test_network_policy_can_be_disabled(chart: Path) -> None:
    rendered = render(chart, {**store(), "networkPolicy": {"enabled": False}})
    assert "NetworkPolicy zeshel-stage" not in rendered.names()
    assert "unrestricted network access" in rendered.notes
