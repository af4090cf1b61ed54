"""The dashboards for Grafana: how the chart ships them, and the metrics of the stages that one of them shows."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.helm.chart import CHART, STORE, Object, render
from tests.helm.served import serving
from zeshel_tasks.compute import telemetry

DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in (CHART / "files").glob("*-dashboard.json")}
OF_STAGES = DASHBOARDS["stages-dashboard"]
UNITS = {"s": "_seconds", "By": "_bytes", "1": "_ratio", "1/s": "_per_second", "": "", "{step}": ""}
"""What Prometheus appends to the name of a gauge that it receives by OTLP."""


def rendered(chart: Path, name: str, values: Object) -> Object:
    if name == "serving-dashboard":
        return serving(chart, metrics={"dashboard": values}).one("ConfigMap", "zeshel-serving-dashboard")
    return render(chart, STORE | {"metrics": {"dashboard": values}}).one("ConfigMap", "zeshel-stages-dashboard")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboard_is_shipped_unchanged_for_the_sidecar(chart: Path, name: str) -> None:
    found = rendered(chart, name, {"enabled": True, "annotations": {"grafana_folder": "Linking"}})
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["annotations"] == {"grafana_folder": "Linking"}
    assert json.loads(*found["data"].values()) == DASHBOARDS[name]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_of_a_dashboard_do_not_overlap(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    cells = [
        (x, y) for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])
    ]  # fmt: skip
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_dashboards_can_be_imported_together() -> None:
    assert len({dashboard["uid"] for dashboard in DASHBOARDS.values()}) == len(DASHBOARDS)


def test_dashboard_shows_every_metric_of_the_stages() -> None:
    made = re.findall(
        r'create_(?:observable_)?gauge\(\s*"([^"]+)",\s*(?:\[.+?\],\s*)?"([^"]*)"', Path(telemetry.__file__).read_text()
    )
    assert len(made) == Path(telemetry.__file__).read_text().count("gauge(")
    known = {name.replace(".", "_") + UNITS[unit] for name, unit in made}
    texts = [target["expr"] for panel in OF_STAGES["panels"] for target in panel["targets"]]
    texts += [item["query"] for item in OF_STAGES["templating"]["list"]]
    assert {name for text in texts for name in re.findall(r"\bzeshel_\w+", text)} == known


def test_dashboard_of_the_stages_uses_their_attributes() -> None:
    known = {"run", "stage", "work", "unit", "measure", "gpu"}
    targets = [target for panel in OF_STAGES["panels"] for target in panel["targets"]]
    for target in targets:
        grouped = set(re.findall(r"\w+", re.findall(r"by \((.*?)\)", target["expr"])[0]))
        assert grouped <= known
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= grouped


@pytest.mark.parametrize(
    ("endpoint", "to", "port"),
    [
        ("http://collector.monitoring:4318", ["0.0.0.0/0", "::/0"], 4318),
        ("https://otlp.example.org", ["0.0.0.0/0", "::/0"], 443),
        ("http://192.0.2.7:4318/", ["192.0.2.7/32"], 4318),
        ("http://[2001:db8::7]:4318", ["2001:db8::7/128"], 4318),
    ],
)
def test_stages_and_airflow_send_metrics_and_may_reach_the_collector(
    chart: Path, endpoint: str, to: list[str], port: int
) -> None:
    objects = render(chart, STORE | {"metrics": {"endpoint": endpoint}, "standalone": {"enabled": True}})
    env = json.loads(objects.one("ConfigMap", "zeshel-settings")["data"]["ZESHEL_PODS"])["env"]
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
    airflow = objects.one("ConfigMap", "zeshel-airflow")["data"]
    assert airflow["AIRFLOW__METRICS__OTEL_ON"] == "True"
    assert airflow["OTEL_EXPORTER_OTLP_ENDPOINT"] == endpoint
    egress = objects.one("NetworkPolicy", "zeshel-stage")["spec"]["egress"]
    assert {"to": [{"ipBlock": {"cidr": cidr}} for cidr in to], "ports": [{"protocol": "TCP", "port": port}]} in egress


def test_without_a_collector_nothing_changes(chart: Path) -> None:
    objects = render(chart, STORE | {"standalone": {"enabled": True}})
    assert "OTEL" not in json.dumps([dict(each) for each in objects])
    assert not [each for each in objects if each["metadata"]["name"].endswith("-dashboard")]


def test_deployments_variable_wins(chart: Path) -> None:
    values: dict[str, Any] = {
        "metrics": {"endpoint": "http://a"},
        "stages": {"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"}},
    }
    env = json.loads(render(chart, STORE | values).one("ConfigMap", "zeshel-settings")["data"]["ZESHEL_PODS"])["env"]
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://b"
