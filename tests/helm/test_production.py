"""The values in docs/production.md render objects that Kubernetes accepts, and settings that the DAG accepts."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.chart import KUBERNETES, render, validate
from zeshel_tasks.orchestration.params import dag_params
from zeshel_tasks.orchestration.settings import read_deployment

PAGE = Path(__file__).parents[2] / "docs" / "production.md"
SECTIONS: dict[str, Any] = {
    title: yaml.safe_load(block)
    for title, block in re.findall(r"^## (.+?)\n.*?^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
}


def test_every_block_of_the_page_is_tested() -> None:
    assert len(SECTIONS) == PAGE.read_text().count("```yaml")
    assert len(SECTIONS) == PAGE.read_text().count("\n## ")


@pytest.mark.parametrize("title", SECTIONS)
def test_values_render_objects_and_settings(chart: Path, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in KUBERNETES:
        rendered = render(chart, SECTIONS[title], kubernetes=version)
        for item in rendered:
            validate(item, version)
    for name, value in rendered.one("ConfigMap", "zeshel-settings")["data"].items():
        monkeypatch.setenv(name, value)
    deployment = read_deployment()
    assert deployment.pods is not None
    assert dag_params(deployment.defaults)


def test_nothing_of_gitops_changes_from_one_rendering_to_the_next(chart: Path) -> None:
    first, second = (render(chart, SECTIONS["GitOps"]).objects for _ in range(2))
    assert first == second
    assert not [item for item in first if item["kind"] == "Secret"]


def test_openshift_chooses_all_users(chart: Path) -> None:
    rendered = render(chart, SECTIONS["OpenShift"])
    assert "runAsUser" not in yaml.safe_dump([item for item in rendered if item["kind"] != "ConfigMap"])
    pods = yaml.safe_load(rendered.one("ConfigMap", "zeshel-settings")["data"]["ZESHEL_PODS"])
    assert pods["runAsUser"] is None


def test_without_the_internet_nothing_outside_is_reachable(chart: Path) -> None:
    policy = render(chart, SECTIONS["Without the internet"]).one("NetworkPolicy", "zeshel-stage")
    cidrs = {peer["ipBlock"]["cidr"] for rule in policy["spec"]["egress"] for peer in rule["to"] if "ipBlock" in peer}
    assert cidrs == {"169.254.20.10/32", "192.0.2.10/32"}
