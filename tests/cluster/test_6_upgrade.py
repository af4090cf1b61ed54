"""An upgrade from the chart before its last change, with changed values. No image is there, so no pod starts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.deployment import Deployment
from tests.cluster.kubectl import Namespace, helm
from tests.helm.chart import ALL_OF_SERVING, TRYING_OUT, earlier_copy

NO_IMAGES = {"pullPolicy": "Never", "tasks": {"tag": "none"}, "airflow": {"tag": "none"}}
BEFORE: dict[str, Any] = {**TRYING_OUT, "sampleInputs": {"enabled": True}, "images": NO_IMAGES}
AFTER: dict[str, Any] = {
    **BEFORE,
    "dag": {"retries": 7},
    "stages": {"runAsUser": 1001, "env": {"HTTPS_PROXY": "http://proxy:3128"}, "scratchSize": "60Gi"},
    "serviceAccounts": {"stages": {"name": "other"}},
    "standalone": {"enabled": True, "service": {"type": "NodePort"}},
    "serving": {
        **ALL_OF_SERVING,
        "httpRoute": {"enabled": False},
        "autoscaling": {"enabled": True, "queue": {"waitingMentions": 64}},
        "metrics": {"dashboard": {"enabled": True}},
    },
}
"""The chart before may be one without the service. The cluster need not know kinds of other projects."""


@pytest.fixture
def second_namespace(deployment: Deployment) -> Iterator[Namespace]:
    """A namespace for another release."""
    made = Namespace(f"{deployment.namespace.name}-upgrade")
    made.run("create", "namespace", made.name)
    yield made
    made.run("delete", "namespace", made.name, "--wait=false")


def test_upgrade_with_changed_values_is_accepted(second_namespace: Namespace, chart: Path, tmp_path: Path) -> None:
    try:
        earlier = earlier_copy(tmp_path, 1)
    except LookupError:
        pytest.skip("no Git history")

    def apply(command: str, chart: Path, values: dict[str, Any]) -> None:
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
        helm(command, "zeshel", str(chart), f"--namespace={second_namespace.name}", f"--values={tmp_path}/values.yaml")

    apply("install", earlier, BEFORE)
    keys = second_namespace.get("secret", "zeshel-keys")["data"]
    jobs = [job["metadata"]["name"] for job in second_namespace.get("jobs")["items"]]
    apply("upgrade", chart, AFTER)
    assert second_namespace.get("secret", "zeshel-keys")["data"] == keys, "Airflow can still decrypt its database"
    assert second_namespace.get("horizontalpodautoscaler", "zeshel-serving")["spec"]["maxReplicas"] == 6
    assert second_namespace.get("configmap", "zeshel-settings")["data"]["ZESHEL_RETRIES"] == "7"
    assert [job["metadata"]["name"] for job in second_namespace.get("jobs")["items"]] != jobs, "a Job cannot change"
