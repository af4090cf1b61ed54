"""Metrics of the HTTP service, and the dashboard that shows them."""

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.helm.chart import CHART, Object
from tests.helm.served import NAME, serving
from zeshel_tasks.serving import app
from zeshel_tasks.serving.metrics import Metrics

DASHBOARD = json.loads((CHART / "files" / "serving-dashboard.json").read_text())


def sample_names(page: str) -> dict[str, set[str]]:
    """The names of samples in ``/metrics``, with their labels. A metric without values has no sample yet."""
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",)}.get(family.type, ("",))
        for suffix in suffixes:
            names[family.name + suffix] = {"le"} if suffix == "_bucket" else set()
    return names


def labels_of(metrics: Metrics) -> dict[str, set[str]]:
    """The labels of each metric of the service."""
    return {
        metric._name: set(metric._labelnames) for metric in vars(metrics).values() if hasattr(metric, "_labelnames")
    }


def expressions() -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*queries, *(item["query"] for item in DASHBOARD["templating"]["list"] if item["type"] == "query")]


def test_every_metric_of_the_dashboard_exists() -> None:
    known = sample_names(Metrics().page().decode())
    used = {name for text in expressions() for name in re.findall(r"\b(?:zeshel|process)_\w+", text)}
    assert used - known.keys() == set()
    of_service = {name for name in known if name.startswith("zeshel_")}
    shown = {re.sub("_(bucket|sum|count|total)$", "", name) for name in used}
    missing = {re.sub("_(bucket|sum|count|total)$", "", name) for name in of_service} - shown
    assert {name for name in missing if not name.endswith("_created")} == set()


def test_every_label_of_the_dashboard_exists() -> None:
    own = set().union(*labels_of(Metrics()).values()) | {"le"}
    of_prometheus = {"namespace", "pod", "instance"}
    grouped = {
        label.strip() for text in expressions() for part in re.findall(r"\b(?:by|on) \(([^)]*)\)", text)
        for label in part.split(",")
    }  # fmt: skip
    selected = {label for text in expressions() for label in re.findall(r"[{,] ?(\w+)=", text)}
    assert grouped | selected <= own | of_prometheus
    assert {"kb", "status", "le"} <= grouped
    legends = {name for panel in DASHBOARD["panels"] for target in panel["targets"]
               for name in re.findall(r"{{(\w+)}}", target["legendFormat"])}  # fmt: skip
    assert legends <= own | of_prometheus
    (paths,) = {tuple(re.findall(r'path="([^"]*)"', text)) for text in expressions() if "path=" in text}
    assert set(paths) <= {route.path for route in app.api.routes}


def test_service_monitor_selects_the_service_and_its_port(chart: Path) -> None:
    rendered = serving(chart, metrics={"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}})
    monitor, service = rendered.one("ServiceMonitor", NAME), rendered.one("Service", NAME)
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint == {"port": "http", "path": "/metrics", "interval": "30s"}
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] in {route.path for route in app.api.routes}


def test_pods_are_annotated_for_prometheus_if_wanted(chart: Path) -> None:
    def annotations(**values: Any) -> Object:
        metadata: Object = serving(chart, **values).one("Deployment", NAME)["spec"]["template"]["metadata"]
        return dict(metadata.get("annotations", {}))

    assert annotations() == {}
    assert annotations(metrics={"annotations": True}, annotations={"prometheus.io/port": "15020", "a": "b"}) == {
        "prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": "/metrics", "a": "b",
    }  # fmt: skip
